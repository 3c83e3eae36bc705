"""Patches of several dates, against the algorithm of the paper taken at its word."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import shapely
from shapely import affinity

from mmearth.pretraining.temporal import patches as module
from mmearth.pretraining.temporal.patches import Patch, components, find_patches, positions

SIZE, STEP = 16, 4


def footprints(seed: int) -> tuple[list[shapely.Polygon], list[str]]:
    """Turned rectangles in two heaps that may touch, and their dates; some share one."""
    random = np.random.default_rng(seed)
    outlines, dates = [], []
    for _ in range(random.integers(2, 8)):
        x, y = random.uniform(-12, 12, 2)
        x += 70 * random.integers(0, 2)
        width, height = random.uniform(20, 60, 2)
        outlines.append(affinity.rotate(shapely.box(x, y, x + width, y + height),
                                        random.uniform(0, 90)))  # fmt: skip
        dates.append(random.choice(["", "2021-05-01", "2021-06-01", "2022-05-01", "2022-06-01"]))
    return outlines, dates


def found(outlines, dates, least=1) -> list[Patch]:
    """What the product finds, component by component."""
    return [
        patch
        for numbers in components(outlines)
        for patch in find_patches(
            {number: positions(outlines[number], SIZE, STEP) for number in numbers},
            {number: dates[number] for number in numbers},
            SIZE,
            least,
        )
    ]


def by_brute_force(outlines, dates, least=1) -> set[Patch]:
    """Try all tuples of all scenes, the largest first, at all positions of the lattice."""
    accepted: list[Patch] = []
    left, top, right, bottom = shapely.total_bounds(outlines)
    cols = range(int(left // STEP) * STEP, int(right) + 1, STEP)
    rows = range(int(top // STEP) * STEP, int(bottom) + 1, STEP)
    for count in range(len(outlines), least - 1, -1):
        for scenes in combinations(range(len(outlines)), count):
            known = [dates[scene] for scene in scenes if dates[scene]]
            if len(set(known)) < len(known):
                continue
            ground = shapely.intersection_all([outlines[scene] for scene in scenes])
            for row, col in product(rows, cols) if ground.area >= SIZE**2 else ():
                free = all(abs(p.col - col) >= SIZE or abs(p.row - row) >= SIZE for p in accepted)
                if free and ground.covers(shapely.box(col, row, col + SIZE, row + SIZE)):
                    accepted.append(Patch(col, row, scenes))
    return set(accepted)


@pytest.mark.parametrize("seed", range(20))
def test_the_same_patches_as_by_brute_force(seed) -> None:
    outlines, dates = footprints(seed)
    patches = found(outlines, dates)
    assert len(set(patches)) == len(patches)
    assert set(patches) == by_brute_force(outlines, dates)


def test_the_seeds_hold_what_can_go_wrong() -> None:
    cases = [footprints(seed) for seed in range(20)]
    assert {len(components(outlines)) for outlines, _ in cases} >= {1, 2}
    counts = {len(patch.scenes) for case in cases for patch in found(*case)}
    assert counts >= {1, 2, 3, 4}
    undated = [found(outlines, [""] * len(outlines)) for outlines, _ in cases]
    assert undated != [found(*case) for case in cases]


def test_only_patches_of_enough_dates() -> None:
    outlines, dates = footprints(3)
    assert set(found(outlines, dates, least=2)) == by_brute_force(outlines, dates, least=2)


def test_batches_do_not_show(monkeypatch) -> None:
    outlines, dates = footprints(5)
    whole = found(outlines, dates)
    monkeypatch.setattr(module, "BATCH", 7)
    assert found(outlines, dates) == whole


def test_many_dates_of_one_frame() -> None:
    """Of 40 scenes there are 2^40 tuples."""
    outlines = [shapely.box(n % 3, 0, 64 + n % 3, 64) for n in range(40)]
    patches = found(outlines, [str(number) for number in range(40)])
    assert max(len(patch.scenes) for patch in patches) == 40
    assert len(patches) == 12  # the fourth column would need pixels 48 to 64 + 2 of all scenes


def test_no_ground_no_patch() -> None:
    assert components([shapely.Polygon(), shapely.box(0, 0, 8, 8)]) == [[1]]
    assert not len(positions(shapely.Polygon(), SIZE, STEP))
    assert not found([shapely.box(0, 0, 15, 15)], [""])
