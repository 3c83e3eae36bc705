"""All losses keep one contract; the boundary weights are those of the paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmearth.errors import InputError
from mmearth.training.losses import (
    BORDER_WEIGHT,
    BORDER_WIDTH,
    LOSSES,
    UNLABELLED,
    border_weights,
    find_loss,
)

WEIGHTS = torch.tensor([0.5, 1.0, 2.0])


@pytest.fixture
def target() -> torch.Tensor:
    """Two sparse squares and a line of three classes, on 2 images."""
    target = torch.full((2, 24, 24), UNLABELLED)
    target[0, 2:8, 2:8] = 0
    target[0, 8:12, 2:8] = 1
    target[1, 15:20, 3:9] = 2
    target[1, 1, :] = 1
    return target


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
class TestContract:
    def test_unlabelled_pixels_change_nothing(self, name, weights, target) -> None:
        scores = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
        before = find_loss(name)(scores, target, weights)
        changed = torch.where((target == UNLABELLED)[:, None], scores * 7 - 3, scores)
        torch.testing.assert_close(find_loss(name)(changed, target, weights), before)
        assert before.ndim == 0 and before > 0

    def test_right_is_better_than_wrong(self, name, weights, target) -> None:
        known = target.masked_fill(target == UNLABELLED, 0)
        right = torch.nn.functional.one_hot(known, 3).permute(0, 3, 1, 2).float() * 24 - 12
        loss = find_loss(name)
        best = loss(right, target, weights)
        assert best < 0.02
        assert best < loss(torch.zeros_like(right), target, weights)
        assert loss(torch.zeros_like(right), target, weights) < loss(-right, target, weights)

    def test_gradients_lead_downwards(self, name, weights, target) -> None:
        scores = torch.zeros(2, 3, 24, 24, requires_grad=True)
        loss = find_loss(name)(scores, target, weights)
        loss.backward()
        assert torch.isfinite(scores.grad).all()
        assert (scores.grad[(target == UNLABELLED)[:, None].expand_as(scores)] == 0).all()
        step = (scores - scores.grad / scores.grad.norm()).detach()
        assert find_loss(name)(step, target, weights) < loss

    def test_no_labels_at_all(self, name, weights, target) -> None:
        scores = torch.randn(2, 3, 24, 24, requires_grad=True)
        loss = find_loss(name)(scores, torch.full_like(target, UNLABELLED), weights)
        loss.backward()
        assert loss == 0 and (scores.grad == 0).all()


def test_weights_by_the_distance_to_the_border() -> None:
    target = np.repeat([[0] * 10 + [1] * 10], 6, axis=0)
    added = border_weights(target)
    distance = np.array([*range(10, 0, -1), *range(1, 11)])
    expected = BORDER_WEIGHT * np.exp(-(distance**2) / (2 * BORDER_WIDTH**2))
    np.testing.assert_allclose(added, np.repeat(expected[None], 6, axis=0), rtol=1e-5)


def test_the_rim_of_what_is_labelled_is_no_border() -> None:
    target = np.full((20, 20), UNLABELLED)
    target[4:9, 4:9] = 0
    assert not border_weights(target).any()
    target[9:14, 4:9] = 1
    added = border_weights(target)
    assert not added[target == UNLABELLED].any()
    assert added[8, 6] > added[4, 6] > 0 and added[4, 4] == added[4, 8]


def test_pixels_at_a_border_weigh_more() -> None:
    target = torch.zeros(1, 30, 30, dtype=torch.long)
    target[:, :, 15:] = 1
    right = torch.nn.functional.one_hot(target, 2).permute(0, 3, 1, 2).float() * 4
    near, far = right.clone(), right.clone()
    near[:, :, :, 14] *= -1
    far[:, :, :, 0] *= -1
    loss = find_loss("boundary-cross-entropy")
    assert loss(near, target, None) > 3 * loss(far, target, None)


def test_unknown_loss() -> None:
    with pytest.raises(InputError, match=r"no loss function 'l2'.*cross-entropy, dice"):
        find_loss("l2")
