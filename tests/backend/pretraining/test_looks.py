"""Looks at one place differ in what may differ, and in nothing else."""

from __future__ import annotations

import pytest
import torch
from pretexts import Toy

from mmearth.models.network import Normaliser
from mmearth.models.parts import Normalisation
from mmearth.pretraining.looks import Look


def random(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reflectance(seed=0) -> torch.Tensor:
    return torch.rand(1, 3, 24, 24, generator=random(seed)) * 0.3 + 0.05


def looks(look, image, data, count=40) -> torch.Tensor:
    return torch.cat([look(image, data, random(seed)) for seed in range(count)])


@pytest.mark.parametrize("function", ["identity", "log1p"])
def test_brightness_leaves_the_ratios_of_bands(function) -> None:
    data = Toy()
    data.normalisation = Normalisation(function=function, mean=(0.1, 0.2, 0.3), std=(0.1, 0.2, 0.4))
    normaliser = Normaliser(data.normalisation)
    even = reflectance().mean(dim=(2, 3), keepdim=True).expand(1, 3, 24, 24)
    image = normaliser(even, torch.ones(1, 24, 24, dtype=torch.bool))
    seen = looks(Look(24, (0.5, 1.0), 0.4), image, data) * normaliser.std + normaliser.mean
    if function == "log1p":
        seen = torch.expm1(seen)
    ratio = seen / even
    torch.testing.assert_close(ratio.amin(dim=1), ratio.amax(dim=1), atol=1e-4, rtol=0)
    factors = ratio.mean(dim=(1, 2, 3))
    assert 0.6 <= factors.min() < 0.75 and 1.25 < factors.max() <= 1.4
    assert (factors - 1).abs().lt(1e-4).float().mean() < 0.4


def test_backscatter_in_decibels_is_left_as_it_is() -> None:
    data = Toy()
    data.sensor = "sentinel-1"
    seen = looks(Look(24, (1.0, 1.0), 0.4), torch.full((1, 3, 24, 24), 0.7), data)
    torch.testing.assert_close(seen, torch.full_like(seen, 0.7))


def test_crops_are_of_many_places_and_sizes_and_turned() -> None:
    ramp = torch.arange(24.0).expand(1, 1, 24, 24) + 100 * torch.arange(24.0)[:, None]
    data = Toy()
    data.normalisation = Normalisation(mean=(0.0,), std=(1.0,))
    seen = looks(Look(16, (0.2, 1.0), 0.0), ramp, data, count=80)
    assert seen.shape == (80, 1, 16, 16)
    assert seen.min() >= 0 and seen.max() <= 2323
    areas = (seen.amax(dim=(1, 2, 3)) - seen.amin(dim=(1, 2, 3))) / 2323
    assert areas.min() < 0.5 and areas.max() > 0.9
    # Eight ways to lie: which corner is darkest, and which of its neighbours is next.
    corners = torch.stack([seen[:, 0, r, c] for r in (0, -1) for c in (0, -1)], dim=1)
    order = corners.argsort(dim=1)
    assert len({tuple(row[:2].tolist()) for row in order}) == 8


def test_no_data_is_the_mean() -> None:
    image = torch.full((1, 3, 24, 24), torch.nan)
    assert (looks(Look(16, (0.2, 1.0), 0.4), image, Toy()) == 0).all()
