"""Does cutting scenes into patches of several dates keep up with an archive that grows?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import affinity

from benchmarks.common import row
from mmearth.pretraining.temporal.patches import Patch, components, find_patches, positions

SIZE, STEP = 128, 32  # pixels
SIDE, TURN = 1100, 13.0  # of a frame like EnMAP's: pixels, degrees
ROUNDS = 3  # of which the fastest counts
MOST = 8.0  # times as long may four times as many scenes take; 16 if it grew with their square


def measure(_scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    archives = {f"{count:,} scenes": _archive(count, dates=5) for count in (100, 400, 1600)}
    stacks = {f"{dates} dates of a frame": _archive(dates, dates) for dates in (10, 40, 160)}
    few = _archive(10, dates=10)
    seconds = {name: _fastest(_patches, case) for name, case in {**archives, **stacks}.items()}
    ours, theirs = _fastest(_patches, few), _fastest(_by_all_tuples, few)
    same = {(p.col, p.row, p.scenes) for p in _patches(few)} == _by_all_tuples(few)
    rows = [row(f"processor seconds for {name}", value) for name, value in seconds.items()]
    for group in (archives, stacks):
        for fewer, more in zip(list(group), list(group)[1:], strict=False):
            ratio = seconds[more] / seconds[fewer]
            rows.append(
                row(f"times as long: {more}, not {fewer.split()[0]}", ratio, f"at most {MOST:g}",
                    ratio <= MOST)
            )  # fmt: skip
    return [
        *rows,
        row("times as long: all tuples of 10 dates of a frame", theirs / ours),
        row("both give the same patches", same, "1", same),
    ]


def _archive(count: int, dates: int) -> list[shapely.Geometry]:
    """Return footprints: frames that overlap a little, of several dates that differ a little."""
    random = np.random.default_rng(0)
    columns = max(1, round((count / dates) ** 0.5))
    outlines = []
    for number in range(count):
        frame = number // dates
        x = frame % columns * 0.95 * SIDE + random.normal(0, 60)
        y = frame // columns * 0.95 * SIDE + random.normal(0, 60)
        outlines.append(affinity.rotate(shapely.box(x, y, x + SIDE, y + SIDE), TURN))
    return outlines


def _patches(outlines: Sequence[shapely.Geometry]) -> list[Patch]:
    return [
        patch
        for numbers in components(outlines)
        for patch in find_patches(
            {number: positions(outlines[number], SIZE, STEP) for number in numbers},
            {number: str(number) for number in numbers},
            SIZE,
        )
    ]


def _by_all_tuples(outlines: Sequence[shapely.Geometry]) -> set[tuple[int, int, tuple[int, ...]]]:
    """Do the same by what all tuples of scenes share, the largest tuples first."""
    places = [{tuple(place) for place in positions(one, SIZE, STEP).tolist()} for one in outlines]
    accepted: set[tuple[int, int, tuple[int, ...]]] = set()
    for count in range(len(outlines), 0, -1):
        for scenes in combinations(range(len(outlines)), count):
            shared = set.intersection(*(places[scene] for scene in scenes))
            for col, line in sorted(shared, key=lambda place: place[::-1]):
                if all(abs(c - col) >= SIZE or abs(r - line) >= SIZE for c, r, _ in accepted):
                    accepted.add((col, line, scenes))
    return accepted


def _fastest(function: Any, outlines: Sequence[shapely.Geometry]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        function(outlines)
        seconds.append(time.process_time() - begun)
    return min(seconds)
