"""Drawing places, dividing them into parts, strips of tiles, and running statistics."""

from __future__ import annotations

import numpy as np
import pytest

from mmearth.pretraining.datasets.blocks import split_blocks
from mmearth.pretraining.datasets.running import Running
from mmearth.pretraining.pairing.places import Place, draw_places
from mmearth.pretraining.pairing.strips import STRIP_BYTES, make_strips

ROW = [Place(0, 0, col) for col in range(12)]


def test_strata_have_equally_many_places_as_long_as_they_have_any() -> None:
    strata = ["a"] * 8 + ["b"] * 2 + ["c"] + [None]
    drawn = draw_places(ROW, strata, 8, seed=0)
    counts = [sum(strata[place.col] == name for place in drawn) for name in "abc"]
    assert counts == [5, 2, 1] and drawn == sorted(drawn)
    assert draw_places(ROW, strata, 8, seed=0) == drawn
    assert any(draw_places(ROW, strata, 8, seed=seed) != drawn for seed in range(1, 5))
    assert draw_places(ROW, strata, None, seed=0) == ROW[:11]
    assert draw_places(ROW, strata, 99, seed=3) == ROW[:11]


def test_blocks_stay_whole_and_parts_have_their_shares() -> None:
    blocks = [(number // 7, 0) for number in range(700)]
    parts = split_blocks(blocks)
    assert sorted(tile for tiles in parts.values() for tile in tiles) == list(range(700))
    assert [len(parts[name]) for name in ("train", "val", "test")] == [560, 70, 70]
    held = [{blocks[tile] for tile in tiles} for tiles in parts.values()]
    assert not held[0] & held[1] and not held[0] & held[2] and not held[1] & held[2]
    first = split_blocks(blocks[:7])
    assert first == {"train": list(range(7)), "val": [], "test": []}
    order = list(reversed(range(700)))  # which block is where depends on no order
    turned = split_blocks([blocks[number] for number in order])
    assert {blocks[order[tile]] for tile in turned["val"]} == held[1]


def test_strips_are_runs_that_fit_into_memory() -> None:
    chosen = [*ROW[:3], *ROW[7:]]
    strips = make_strips({place: [0, 1] for place in ROW}, chosen, 1)
    assert [(one.image, [place.col for place in one.places]) for one in strips] == [
        (image, cols) for image in (0, 1) for cols in ([0, 1, 2], [7, 8, 9, 10, 11])
    ]
    assert len({one.name for one in strips}) == 4
    few = make_strips({place: [0] for place in ROW}, chosen, STRIP_BYTES // 2)
    assert [[place.col for place in one.places] for one in few] == [
        [0, 1], [2], [7, 8], [9, 10], [11],
    ]  # fmt: skip


def test_running_statistics_are_those_of_all_at_once() -> None:
    random = np.random.default_rng(0)
    values = random.normal([[1e6], [-3.0], [0.0]], [[0.5], [2.0], [1.0]], (3, 5000))
    values[1, ::3], values[1, 1], values[2] = np.nan, np.inf, np.nan
    found = Running(3)
    for part in np.array_split(values, 13, axis=1):
        found.add(part.astype(np.float64).reshape(3, -1, 1))
    known = np.isfinite(values)
    assert found.count.tolist() == known.sum(axis=1).tolist() and found.count[2] == 0
    for channel in (0, 1):
        numbers = values[channel][known[channel]]
        assert found.mean[channel] == pytest.approx(numbers.mean(), rel=1e-12)
        assert found.std[channel] == pytest.approx(numbers.std(), rel=1e-9)
        assert (found.low[channel], found.high[channel]) == (numbers.min(), numbers.max())
