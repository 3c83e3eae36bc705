"""What tools that make models compute, apart from training."""

from __future__ import annotations

import numpy as np
import pytest

from tools.label_tiles import BANDS, change
from tools.training import best_threshold


def test_the_threshold_of_a_mask_is_where_its_iou_is_best() -> None:
    random = np.random.default_rng(0)
    probability = random.uniform(size=20_000)
    truth = probability >= 0.43
    assert best_threshold(probability, truth) == pytest.approx(0.43)
    # Below 0.6 fewer and fewer are right.
    truth = random.uniform(size=20_000) < np.where(probability >= 0.6, 1, probability / 0.6 * 0.5)
    found = best_threshold(probability, truth)
    scores = {
        number: (truth & (probability >= number)).sum() / (truth | (probability >= number)).sum()
        for number in (found - 0.05, found, found + 0.05)
    }
    assert max(scores, key=scores.get) == found


@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_changed_tiles_hold_what_was_valid_in_the_range_of_sensors(level: str) -> None:
    random = np.random.default_rng(0)
    levels, sides = set(), set()
    valid = np.ones((64, 72), bool)
    valid[:, :20] = False
    image = random.uniform(200, 4000, (len(BANDS), 64, 72)).astype(np.float32) * valid
    other = random.uniform(800, 6000, (len(BANDS), 64, 64)).astype(np.float32)
    for _ in range(40):
        found, seen, own = change(image, valid, level, other, random)
        assert found.shape == (len(BANDS), *seen.shape) and min(seen.shape) >= 48
        assert found.dtype == np.float32 and (found == found.round()).all()
        assert found.min() >= 1 and found.max() <= 20_000
        # No data stays at the left, as far as it reached.
        assert seen.mean() == pytest.approx(52 / 72, abs=0.05)
        assert not seen[:, : seen.shape[1] // 4].any() and seen[:, seen.shape[1] // 3 :].all()
        levels.add(own)
        sides.add(seen.shape)
    assert levels == {"L1C", "L2A"} and len(sides) > 10
