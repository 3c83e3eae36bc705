"""Thresholds of the benchmark of disturbance: counted by a tally, and pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.disturbance import Site, nested
from benchmarks.thresholds import FOLDS, Tally, f1, others
from mmearth.change.rule import load_rules

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


@pytest.fixture
def pixels():
    """Evidence and shade with ties and infinities, damage that both tell of, and folds."""
    random = np.random.default_rng(0)
    count = 400
    evidence = random.normal(size=count).round(1).astype(np.float32)
    shade = random.normal(size=count).round(1).astype(np.float32)
    damaged = evidence - shade + random.normal(size=count) > 1.5
    evidence[:20], shade[:20] = np.inf, -np.inf
    evidence[20:60] = -np.inf
    return evidence, shade, damaged, np.arange(count) % FOLDS


def counts(pixels, own, step: float, limit: float) -> NDArray[np.int64]:
    evidence, shade, damaged, fold = pixels
    inside = np.isin(fold, own)
    called = (evidence >= step) & (shade <= limit) & inside
    return np.array([(called & damaged).sum(), called.sum(), (damaged & inside).sum()])


def test_a_tally_counts_what_each_pair_of_thresholds_calls(pixels) -> None:
    tally = Tally.of(*pixels)
    for place in np.ndindex(len(tally.steps), len(tally.limits)):
        expected = counts(pixels, [2], tally.steps[place[0]], tally.limits[place[1]])
        assert tally.counts(2, place).tolist() == expected.tolist()


def test_the_best_pair_is_looked_for_without_the_fold_that_is_judged(pixels) -> None:
    tally = Tally.of(*pixels)
    pairs = [(step, limit) for step in tally.steps for limit in tally.limits]
    found = []
    for fold in range(FOLDS):
        scores = [f1(counts(pixels, others(fold), *pair)) for pair in pairs]
        best, place = tally.best(others(fold))
        assert best == pytest.approx(max(scores))
        chosen = tally.steps[place[0]], tally.limits[place[1]]
        assert f1(counts(pixels, others(fold), *chosen)) == pytest.approx(best)
        found.append(counts(pixels, [fold], *chosen))
    score, spread = tally.cross_validated()
    assert score == pytest.approx(f1(np.sum(found, axis=0)))
    assert spread == pytest.approx(np.std([f1(part) for part in found], ddof=1))


def test_the_nested_choice_finds_the_band_that_tells() -> None:
    """Damage shows in one band alone."""
    random = np.random.default_rng(0)
    sites = []
    for _ in range(2 * FOLDS):
        image = random.normal(0.1, 0.005, (2, len(BANDS), 24, 24)).astype(np.float32)
        damaged = np.zeros((24, 24), bool)
        damaged[6:14, 8:18] = True
        image[1, BANDS.index("B12"), damaged] += 0.1
        trees = np.full((2, 24, 24), 0.7, np.float32)
        sites.append(Site(trees, image, trees, damaged, np.ones((24, 24), bool)))
    score, _, names = nested(sites, BANDS, load_rules()[0])
    assert score > 0.85 and all(name.startswith("short-wave infrared 2") for name in names)
