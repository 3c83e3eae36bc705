"""Self-distillation, beyond what every method keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pretexts import FIELDS, SIDE, Toy, build, recipe

from mmearth.errors import InputError, TrainingError
from mmearth.models.registry import build_encoder
from mmearth.pretraining.dino import DINO, DINOOptions
from mmearth.pretraining.group import ALONE
from mmearth.pretraining.loop import COLLAPSED, fit
from mmearth.pretraining.method import Pretext
from mmearth.pretraining.teacher import pooled
from mmearth.training.task import Watch

OPTIONS = FIELDS["dino"]["options"]


def drawn(pretext, count=3):
    return pretext.draw(Toy(), count, np.random.default_rng(0))


def test_the_loss_by_hand_with_small_looks() -> None:
    pretext = build("dino", Toy(), options={**OPTIONS, "small_crops": 2}).eval()
    pretext.begin(60, 100)
    with torch.no_grad():
        pretext.centre.normal_(std=0.1)
        for part in pretext.teacher.parameters():
            part.mul_(1.1)
    batch = drawn(pretext)
    assert [value.shape[-1] for value in batch.values()] == [24, 24, 8, 8]
    large = list(batch.values())[:2]
    expected = []
    for n in range(3):
        for a, look in enumerate(large):
            said = pretext.teacher_head(pooled(pretext.teacher, look))[n]
            wanted = ((said - pretext.centre) / 0.07).softmax(0)
            for b, other in enumerate(batch.values()):
                if a != b:
                    seen = pretext.head(pooled(pretext.encoder, other))[n] / 0.1
                    expected.append(-(wanted * seen.log_softmax(0)).sum())
    torch.testing.assert_close(pretext(batch).total, torch.stack(expected).mean())


class Soft(DINO):
    """The teacher is never sure of anything."""

    def _temperature(self) -> float:
        return 1.0


class Uncentred(DINO):
    """What the teacher says most is not taken off what it says."""

    def advance(self, group=ALONE) -> None:
        super().advance(group)
        self.centre.zero_()


def taught(kind, folder):
    """Teach the toy; the network, and the rows of the log."""
    data = Toy()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    encoder = build_encoder("vit-toy-p8", in_channels=3)
    pretext = kind(encoder, data.modalities[0], SIDE, DINOOptions(**OPTIONS))
    numbers = recipe("dino", steps=40, every=8)
    try:
        return pretext, fit(pretext, data, numbers, folder, Watch()).rows
    except TrainingError as error:
        return pretext, error


@pytest.mark.parametrize(("kind", "meant"), [(Soft, 32), (Uncentred, 1)])
def test_its_own_collapses_are_noticed(kind, meant, tmp_path) -> None:
    pretext, error = taught(kind, tmp_path)
    assert isinstance(error, TrainingError)
    assert "collapsed by step" in str(error) and "look alike" in str(error)
    batch = drawn(pretext, 16)
    with torch.no_grad():
        likely = pretext(batch).features
        features = pooled(pretext.encoder, next(iter(batch.values())))
    # Every image means everything alike, or all mean one thing; to the encoder they still differ.
    assert torch.special.entr(likely).sum(dim=1).exp().mean() == pytest.approx(meant, rel=0.02)
    assert Pretext.spread(pretext, features) > 10 * COLLAPSED


def test_a_healthy_run_goes_on(tmp_path) -> None:
    _, rows = taught(DINO, tmp_path)
    assert [row.step for row in rows] == [8, 16, 24, 32, 40]
    assert min(row.spread for row in rows) > 10 * COLLAPSED


def test_spread_is_what_is_learned_of_a_look_from_what_it_means() -> None:
    pretext = build("dino", Toy())
    for likely, expected in (
        (torch.eye(4), math.log(4)),
        (torch.full((4, 4), 0.25), 0.0),
        (torch.tensor([[1.0, 0, 0, 0]] * 4), 0.0),
        (torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]), math.log(2)),
    ):
        assert pretext.spread(likely) == pytest.approx(expected, abs=1e-6)


def test_a_teacher_no_surer_than_the_student_is_refused() -> None:
    with pytest.raises(InputError, match=r"option temperature .* less than 0.1, found 0.1"):
        build("dino", Toy(), options={**OPTIONS, "temperature": 0.1})


def test_the_last_layer_waits() -> None:
    pretext = build("dino", Toy())
    for done, waits in ((0, True), (1, False)):
        pretext.begin(done, 100)
        pretext.zero_grad()
        pretext(drawn(pretext)).total.backward()
        assert (pretext.head.last.grad is None) == waits
        assert pretext.head.layers[0].weight.grad.abs().sum() > 0


def test_the_centre_follows_all_parts_of_a_step() -> None:
    pretext = build("dino", Toy(), options={**OPTIONS, "centre_momentum": 0.75})
    pretext.begin(0, 10)
    batch = drawn(pretext, 4)
    looks = torch.cat(list(batch.values()))
    with torch.no_grad():
        said = pretext.teacher_head(pooled(pretext.teacher, looks)).mean(dim=0)
    for part in (slice(0, 2), slice(2, 4)):
        pretext({name: value[part] for name, value in batch.items()})
    pretext.advance()
    torch.testing.assert_close(pretext.centre, 0.25 * said)


@pytest.mark.parametrize(("done", "temperature"), [(0, 0.04), (15, 0.055), (30, 0.07), (99, 0.07)])
def test_the_teacher_grows_softer(done, temperature) -> None:
    pretext = build("dino", Toy())
    pretext.begin(done, 100)
    assert pretext._temperature() == pytest.approx(temperature)


def test_the_teacher_comes_to_rest() -> None:
    pretext = build("dino", Toy())
    before = {k: v.clone() for k, v in pretext.teacher.state_dict().items()}
    with torch.no_grad():
        for part in pretext.encoder.parameters():
            part.add_(1)
    for done, moved in ((500, 0.05), (1000, 0.0)):
        pretext.begin(done, 1000)
        pretext(drawn(pretext))
        pretext.teacher.load_state_dict(before)
        pretext.advance()
        name = "vit_core.cls_token"
        step = (pretext.teacher.state_dict()[name] - before[name]).mean()
        # The momentum is 0.9 at first, 0.95 half-way, and 1 in the end.
        assert float(step) == pytest.approx(moved, abs=1e-5)
