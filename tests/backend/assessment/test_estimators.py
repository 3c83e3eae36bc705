"""The estimators give what the papers print."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmearth.assessment.estimators import Sample, assess

# Olofsson, Foody, Herold, Stehman, Woodcock and Wulder 2014, Remote Sensing of Environment 148:42,
# table 8: deforestation, forest gain, stable forest, stable non-forest; rows are the map.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
HECTARES = 0.09 * PIXELS  # of 30 m


def of_counts(counts: np.ndarray, areas: np.ndarray) -> Sample:
    """A point for each count, strata as mapped."""
    mapped, reference = (np.repeat(place, counts.ravel()) for place in _places(counts))
    clusters = np.arange(mapped.size)
    return Sample(
        mapped, mapped, reference, clusters, np.full(mapped.size, 900.0), areas, len(counts)
    )


def _places(counts: np.ndarray) -> list[np.ndarray]:
    return [place.ravel() for place in np.indices(counts.shape)]


def test_the_example_of_olofsson_and_others() -> None:
    """Section 5.2, page 54. Of two margins of producer's accuracy, below, equation 7 is held to.

    The page prints 0.23 for forest gain and 0.01 for stable non-forest, which are not what the
    equation gives with the counts of table 8: 0.254 and 0.018.
    """
    found = assess(of_counts(COUNTS, HECTARES))
    np.testing.assert_array_equal(found.overall.values.round(2), [0.95])
    np.testing.assert_array_equal(found.overall.margins.round(2), [0.02])
    np.testing.assert_array_equal(found.users.values.round(2), [0.88, 0.73, 0.93, 0.96])
    np.testing.assert_array_equal(found.users.margins.round(2), [0.07, 0.10, 0.04, 0.02])
    np.testing.assert_array_equal(found.producers.values.round(2), [0.75, 0.85, 0.93, 0.96])
    np.testing.assert_array_equal(found.producers.margins.round(2), [0.21, 0.25, 0.03, 0.02])
    np.testing.assert_array_equal(found.hectares.values.round(), [21_158, 11_686, 285_770, 581_386])
    np.testing.assert_array_equal(found.hectares.margins.round(), [6158, 3756, 15_510, 16_282])


def test_proportions_of_table_9() -> None:
    found = assess(of_counts(COUNTS, HECTARES))
    expected = [
        [0.0176, 0, 0.0013, 0.0011],
        [0, 0.0110, 0.0016, 0.0024],
        [0.0019, 0, 0.2967, 0.0213],
        [0.0040, 0.0020, 0.0179, 0.6212],
    ]
    np.testing.assert_array_equal(found.proportions.round(4), expected)


def test_producers_accuracy_by_equation_7() -> None:
    """Written out as it is printed, beside the ratio that we compute."""
    found = assess(of_counts(COUNTS, HECTARES))
    drawn = COUNTS.sum(axis=1)
    users, producers = np.diag(COUNTS) / drawn, found.producers.values
    for j in range(4):
        own = (PIXELS[j] * (1 - producers[j])) ** 2 * users[j] * (1 - users[j]) / (drawn[j] - 1)
        shares = COUNTS[:, j] / drawn
        others = PIXELS**2 * shares * (1 - shares) / (drawn - 1)
        total = (PIXELS * shares).sum()
        variance = (own + producers[j] ** 2 * (others.sum() - others[j])) / total**2
        assert found.producers.errors[j] == pytest.approx(np.sqrt(variance), rel=1e-9)


def test_the_example_of_stehman() -> None:
    """Stehman 2014, International Journal of Remote Sensing 35:4923: strata are not the classes."""
    mapped = "AAAAAAABBB" + "ABBBBBBBBB" + "BBCCCCCCBB" + "DDDDDDDDDD"
    reference = "AAAAACBABC" + "ABBBBBAABB" + "CCCCCDDBBA" + "DDDDDDDCCB"
    numbers = {letter: number for number, letter in enumerate("ABCD")}
    strata = np.repeat(np.arange(4), 10)
    sample = Sample(
        strata,
        np.array([numbers[letter] for letter in mapped]),
        np.array([numbers[letter] for letter in reference]),
        np.arange(40),
        np.ones(40),
        np.array([40_000.0, 30_000, 20_000, 10_000]),
        4,
    )
    found = assess(sample)
    shares = found.hectares.values / 100_000
    assert shares[[0, 2]].round(2).tolist() == [0.35, 0.20]
    assert (found.hectares.errors[[0, 2]] / 100_000).round(3).tolist() == [0.082, 0.064]
    assert (found.overall.values[0].round(2), found.overall.errors[0].round(3)) == (0.63, 0.085)
    assert found.users.values[1].round(3) == 0.574 and found.users.errors[1].round(3) == 0.125
    assert found.producers.values[1].round(3) == 0.794
    assert found.proportions[1, 2].round(2) == 0.08


def test_scores_are_of_the_proportions() -> None:
    found = assess(of_counts(COUNTS, HECTARES))
    shares = found.proportions
    hits, total = np.diag(shares), shares.sum(axis=0) + shares.sum(axis=1)
    np.testing.assert_allclose(found.f1.values, 2 * hits / total)
    np.testing.assert_allclose(found.iou.values, hits / (total - hits))


def test_pixels_of_a_cluster_tell_no_more_than_one() -> None:
    """Nine pixels in the place of each point: the same figures, and intervals as wide as before."""
    points = of_counts(COUNTS, HECTARES)
    pixels = replace(
        points,
        **{
            name: np.repeat(getattr(points, name), 9)
            for name in ("strata", "mapped", "reference", "clusters", "sizes")
        },
    )
    joined = replace(points, sizes=9 * points.sizes)
    for other in (pixels, joined):
        for name in ("overall", "users", "producers", "f1", "iou", "hectares"):
            ours, theirs = getattr(assess(other), name), getattr(assess(points), name)
            np.testing.assert_allclose(ours.values, theirs.values)
            np.testing.assert_allclose(ours.errors, theirs.errors)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Maps with errors in patches, judged by squares that cross the classes of the map."""
    random = np.random.default_rng(1)
    blocks = np.kron(random.random((60, 60)), np.ones((5, 5)))
    truth = (blocks > 0.6).astype(int)
    mapped = np.where(
        np.kron(random.random((60, 60)) < 0.15, np.ones((5, 5), bool)), 1 - truth, truth
    )
    areas = np.bincount(mapped.ravel()).astype(float)
    exact = (truth == mapped).mean()
    held = 0
    for _ in range(100):
        drawn = random.choice(3600, 120, replace=False)
        rows = (drawn[:, None] // 60 * 5 + np.arange(25) // 5).ravel()
        cols = (drawn[:, None] % 60 * 5 + np.arange(25) % 5).ravel()
        strata = mapped[rows, cols]
        clusters = np.repeat(np.arange(120), 25)
        sample = Sample(strata, strata, truth[rows, cols], clusters, np.ones(rows.size), areas, 2)
        found = assess(sample).overall
        held += abs(found.values[0] - exact) <= found.margins[0]
    assert 88 <= held <= 99  # of 100: 95 %, within chance
