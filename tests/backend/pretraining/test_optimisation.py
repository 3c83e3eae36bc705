"""Each method moves its weights as its paper does."""

from __future__ import annotations

import pytest
import torch
from pretexts import Toy, build, recipe, spec

from mmearth.models.card import read_card
from mmearth.pretraining.loop import fit
from mmearth.pretraining.model import save_encoder
from mmearth.pretraining.optimisation import Optimisation
from mmearth.training.task import Watch


def test_the_learning_rate_rises_and_falls() -> None:
    rising = Optimisation(warm_up=0.2)
    rates = [2.0 * rising.share(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0)
    assert max(rates) == rates[20] == 2.0
    assert rates[60] == pytest.approx(1.0) and rates[-1] < 0.01
    assert Optimisation(warm_up=0.0).share(0, 100) == 1.0


@pytest.mark.parametrize(
    ("name", "encoder", "kind", "images", "rate", "of_64"),
    [
        ("mp-mae", "mmearth-toy-p8", torch.optim.AdamW, 4096, 2.4e-3, 3e-4),
        ("mae", "vit-toy-p8", torch.optim.AdamW, 4096, 2.4e-3, 3e-4),
        ("dino", "vit-toy-p8", torch.optim.AdamW, 1024, 2e-3, 5e-4),
        ("moco", "tu-test_resnet", torch.optim.SGD, 256, 0.03, 7.5e-3),
        ("moco", "vit-toy-p8", torch.optim.AdamW, 4096, 2.4e-3, 3e-4),
    ],
)
def test_published_rates_are_less_for_fewer_images(
    name, encoder, kind, images, rate, of_64
) -> None:
    pretext = build(name, Toy(), encoder=encoder)
    own = pretext.optimisation
    assert own.highest(images) == rate and own.highest(64) == pytest.approx(of_64)
    assert type(own.build(pretext, 1.0)) is kind


def test_weight_decay_rises_but_of_scales_and_shifts() -> None:
    pretext = build("dino", Toy())
    own = pretext.optimisation
    optimizer = own.build(pretext, 1.0)
    for step, expected in ((0, 0.04), (50, 0.22), (100, 0.4)):
        own.prepare(optimizer, 1.0, step, 100)
        found = {
            parameter.ndim > 1: group["weight_decay"]
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        assert found == {True: pytest.approx(expected), False: 0.0}


def test_a_long_gradient_is_clipped(tmp_path) -> None:
    """Of SGD without momentum and decay, a step is as long as the gradient."""
    moved = {}
    for clip in (None, 0.01):
        data, pretext = Toy(), build("moco", Toy())
        pretext.optimisation = Optimisation(
            "SGD", momentum=(0.0,), weight_decay=(0.0, 0.0), warm_up=0.0, clip=clip
        )
        before = [part.detach().clone() for part in pretext.parameters()]
        numbers = recipe("moco", steps=1, learning_rate=1.0)
        (row,) = fit(pretext, data, numbers, tmp_path / str(clip), Watch()).rows
        after = zip(pretext.parameters(), before, strict=True)
        steps = [(new.detach() - old).flatten() for new, old in after if new.requires_grad]
        moved[clip] = float(torch.cat(steps).norm())
        assert row.gradient > 0.1  # as it was
    assert moved[None] == pytest.approx(row.gradient, rel=1e-3)
    assert moved[0.01] == pytest.approx(0.01, rel=1e-3)


def test_the_card_says_how(tmp_path) -> None:
    data, pretext = Toy(), build("dino", Toy())
    numbers = recipe("dino", steps=1)
    rows = fit(pretext, data, numbers, tmp_path, Watch()).rows
    save_encoder(tmp_path / "encoder", pretext, data, spec("dino"), numbers, rows)
    found = read_card(tmp_path / "encoder").training
    assert found["optimiser"] == "AdamW, momentum 0.9 and 0.999"
    assert found["learning rate"] == numbers.learning_rate
    assert found["weight decay"] == "0.04 to 0.4" and found["warm-up"] == "10% of the steps"
    assert found["clipping"] == "gradients longer than 3"
