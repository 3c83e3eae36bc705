"""Losses are of what is hidden and known, and of nothing else."""

from __future__ import annotations

import pytest
import torch

from mmearth.pretraining.losses import (
    PlainSum,
    Weighting,
    modality_loss,
    patch_statistics,
    patchify,
    unpatchify,
)
from mmearth.pretraining.modality import UNKNOWN, Modality

PATCH = 4
HIDDEN = torch.tensor([[True, False, True, False], [False, True, True, False]])
MODALITIES = {
    "optical": Modality("optical", "continuous", "pixel", 3, patch_norm=True),
    "height": Modality("height", "continuous", "pixel", 2),
    "cover": Modality("cover", "categorical", "pixel", 5),
    "climate": Modality("climate", "continuous", "image", 6),
    "biome": Modality("biome", "categorical", "image", 4),
}
PIXELS = [name for name, one in MODALITIES.items() if one.level == "pixel"]


def example(one: Modality) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a prediction and a target of two images of 8 x 8 pixels."""
    random = torch.Generator().manual_seed(0)
    shape = (2, 8, 8) if one.level == "pixel" else (2,)
    if one.kind == "categorical":
        target = torch.randint(one.channels, shape, generator=random)
    else:
        target = torch.randn(2, one.channels, *shape[1:], generator=random)
    size = (2, 4, PATCH**2 * one.channels) if one.level == "pixel" else (2, one.channels)
    return torch.randn(size, generator=random), target


def by_hand(one: Modality, target: torch.Tensor) -> torch.Tensor:
    """Return what is to be predicted, patch by patch."""
    if one.level == "image":
        return target
    rows = []
    for image in target if one.kind == "continuous" else target[:, None]:
        corners = [(top, left) for top in (0, PATCH) for left in (0, PATCH)]
        patches = [image[:, top : top + PATCH, left : left + PATCH] for top, left in corners]
        if one.patch_norm:
            patches = [(p - p.mean()) / (p.var() + 1e-6).sqrt() for p in patches]
        rows.append(torch.stack([p.permute(1, 2, 0).flatten() for p in patches]))
    return torch.stack(rows)


def unknown(one: Modality) -> float:
    return UNKNOWN if one.kind == "categorical" else torch.nan


def test_patches_are_put_together_again() -> None:
    image = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    patches = patchify(image, PATCH)
    assert patches.shape == (2, 6, 48)
    # Row by row, column by column, and the channel fastest.
    torch.testing.assert_close(patches[0, 1, :6], image[0, :, 0, 4:6].T.flatten())
    assert torch.equal(unpatchify(patches, PATCH, 2), image)


def test_patches_are_standardised_by_what_is_known_of_them() -> None:
    patches = torch.randn(2, 4, 48) * 5 + 3
    mean, deviation = patch_statistics(patches)
    torch.testing.assert_close(mean, patches.mean(-1, keepdim=True))
    torch.testing.assert_close(deviation, patches.std(-1, keepdim=True))
    holed = torch.cat([patches, torch.full_like(patches, torch.nan)], dim=-1)
    torch.testing.assert_close(patch_statistics(holed), (mean, deviation))


@pytest.mark.parametrize("name", MODALITIES)
class TestEveryModality:
    def test_is_what_it_is_by_hand(self, name) -> None:
        one = MODALITIES[name]
        predicted, target = example(one)
        loss, count = modality_loss(one, predicted, target, HIDDEN, PATCH)
        wanted, said = by_hand(one, target), predicted
        if one.level == "pixel":
            wanted, said = wanted[HIDDEN], said[HIDDEN]
        if one.kind == "categorical":
            likely = said.reshape(*wanted.shape, -1).log_softmax(-1)
            expected = -likely.gather(-1, wanted[..., None]).mean()
        else:
            expected = (said - wanted).square().mean()
        torch.testing.assert_close(loss, expected)
        assert count == wanted.numel()

    def test_no_data_is_no_target(self, name) -> None:
        one = MODALITIES[name]
        predicted, target = example(one)
        target[..., :1] = unknown(one)  # a column of pixels, a value, or an image's class
        if one.level == "image" and one.kind == "categorical":
            target = torch.tensor([1, UNKNOWN])
        predicted.requires_grad_()
        loss, count = modality_loss(one, predicted, target, HIDDEN, PATCH)
        loss.backward()
        full = modality_loss(one, predicted, example(one)[1], HIDDEN, PATCH)[1]
        assert 0 < count < full
        assert loss.isfinite() and predicted.grad.isfinite().all()
        untaught = predicted.grad == 0
        assert untaught.any() and not untaught.all()
        # Whatever is said there costs nothing.
        changed = torch.where(untaught, predicted + 50, predicted)
        torch.testing.assert_close(modality_loss(one, changed, target, HIDDEN, PATCH)[0], loss)

    def test_nothing_known_costs_nothing(self, name) -> None:
        one = MODALITIES[name]
        predicted, target = example(one)
        target[:] = unknown(one)
        predicted.requires_grad_()
        loss, count = modality_loss(one, predicted, target, HIDDEN, PATCH)
        loss.backward()
        assert (loss, count) == (0, 0)
        assert (predicted.grad == 0).all()


@pytest.mark.parametrize("name", PIXELS)
def test_pixels_that_were_shown_are_not_asked_for(name) -> None:
    one = MODALITIES[name]
    predicted, target = example(one)
    before = modality_loss(one, predicted, target, HIDDEN, PATCH)[0]
    changed = torch.where(HIDDEN[..., None], predicted, predicted * 9 + 7)
    assert modality_loss(one, changed, target, HIDDEN, PATCH)[0] == before


def test_tasks_are_weighted_by_their_uncertainty() -> None:
    weighting = Weighting(3)
    losses, share = torch.tensor([2.0, 0.5, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    assert weighting(losses, share) == 2.5
    with torch.no_grad():
        weighting.log_vars += torch.tensor([1.0, -1.0, 5.0])
    total = weighting(losses, share)
    expected = 2 * torch.exp(torch.tensor(-1.0)) + 1 + 0.5 * torch.exp(torch.tensor(1.0)) - 1
    torch.testing.assert_close(total, expected)
    total.backward()
    assert weighting.log_vars.grad[2] == 0  # of a task of which nothing was known
    assert PlainSum()(losses, share) == 2.5
    # Two parts of a step make up the whole.
    parts = [weighting(losses * part, share * part) for part in (0.25, 0.75)]
    torch.testing.assert_close(sum(parts), total)
