"""Thresholds of the rule: counted right, and chosen without what they are judged on."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import disturbance
from benchmarks.disturbance import nested
from benchmarks.sites import Site
from benchmarks.thresholds import FOLDS, Tally, f1, folds, others
from mmearth.change.rule import load_rules

SENTINEL = load_rules()[0]


@pytest.fixture
def pixels():
    """Evidence and shade with ties and infinities, damage that both tell of, and folds."""
    random = np.random.default_rng(0)
    evidence, shade = random.normal(size=(2, 400)).round(1).astype(np.float32)
    damaged = evidence - shade + random.normal(size=400) > 1.5
    evidence[:40], shade[:40] = np.inf, -np.inf
    evidence[40:80] = -np.inf
    return evidence, shade, damaged, random.integers(0, FOLDS, 400)


def test_pixels_are_counted_at_every_pair_of_thresholds(pixels) -> None:
    """Also where many hold the same value, and where thresholds do not count."""
    evidence, shade, damaged, fold = pixels
    tally = Tally.of(evidence, shade, damaged, fold)
    assert tally.steps.size > 20 and tally.limits.size > 10
    for step, threshold in enumerate(tally.steps):
        for limit, brightest in enumerate(tally.limits):
            called = (evidence >= threshold) & (shade <= brightest)
            for number in range(FOLDS):
                own = fold == number
                expected = [(called & damaged & own).sum(), (called & own).sum(),
                            (damaged & own).sum()]  # fmt: skip
                assert tally.counts(number, (step, limit)).tolist() == expected
    score, (step, limit) = tally.best([1, 2])
    right, called, lost = tally.counts(1, (step, limit)) + tally.counts(2, (step, limit))
    assert score == pytest.approx(2 * right / (called + lost))


def test_the_best_pair_is_looked_for_without_the_fold_that_is_judged(pixels) -> None:
    evidence, shade, damaged, fold = pixels

    def counts(own, step, limit):
        inside = np.isin(fold, own)
        called = (evidence >= step) & (shade <= limit) & inside
        return np.array([(called & damaged).sum(), called.sum(), (damaged & inside).sum()])

    tally = Tally.of(*pixels)
    found = []
    for one in range(FOLDS):
        rest = others(one)
        scores = [f1(counts(rest, a, b)) for a in tally.steps for b in tally.limits]
        best, (step, limit) = tally.best(rest)
        chosen = tally.steps[step], tally.limits[limit]
        assert best == pytest.approx(max(scores)) == pytest.approx(f1(counts(rest, *chosen)))
        found.append(counts([one], *chosen))
    score, spread = tally.cross_validated()
    assert score == pytest.approx(f1(np.sum(found, axis=0)))
    assert spread == pytest.approx(np.std([f1(part) for part in found], ddof=1))


def test_what_is_chosen_knows_nothing_of_the_sites_that_are_judged(monkeypatch) -> None:
    """Where one fold outweighs the others, it alone is judged by what these would choose."""
    ways = {"red": {"B04": 10.0}, "short-wave": {"B11": 10.0}}
    monkeypatch.setattr(disturbance, "CANDIDATES", ways)
    monkeypatch.setattr(disturbance, "SHADES", ("",))
    heavy = 2
    sites = [
        site("B11", side=72, seed=n) if fold == heavy else site("B04", side=24, seed=n)
        for n, fold in enumerate(folds(10))
    ]
    score, _, (count, *chosen) = nested(sites, SENTINEL.bands, SENTINEL)
    assert count == "of 48"
    choices = {text.partition(",")[0]: 0 for text in chosen}
    for text in chosen:
        choices[text.partition(",")[0]] += int(text.rpartition("(")[2].rstrip(")"))
    assert choices == {"red": 1, "short-wave": FOLDS - 1}
    assert score < 0.5  # neither tells anything of what it is judged on


def site(band: str, *, side: int, seed: int) -> Site:
    """Return forest of which a third becomes brighter in a band, and is damaged."""
    random = np.random.default_rng(seed)
    image = random.normal(0.1, 0.001, (2, len(SENTINEL.bands), side, side)).astype(np.float32)
    damaged = np.zeros((side, side), bool)
    damaged[: side // 3] = True
    image[1, SENTINEL.bands.index(band), damaged] += 0.05
    trees = np.full((2, side, side), 0.7, np.float32)
    return Site(
        trees, image, trees, damaged, np.ones((side, side), bool), unseen=True, place=(0, 0)
    )
