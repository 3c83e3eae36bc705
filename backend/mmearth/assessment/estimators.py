"""Accuracies and areas from a stratified sample, each with its standard error.

The estimators are those of Stehman (2014, International Journal of Remote Sensing 35:4923) for
strata that may differ from the map's classes. Where they are the map's classes, they are those of
Olofsson et al. (2014, Remote Sensing of Environment 148:42): equations 1 to 3 with 5, 6 and 7, and
9 with 10 and 11.

Every figure is a ratio of two totals, user's accuracy for example of the area mapped right as a
class to the area mapped as it. Its variance is that of a total of residuals. Pixels of one polygon
or block are right or wrong together, so residuals are added up by cluster first (the linearised
variance of clusters of Cochran 1977, Sampling Techniques, chapter 11); where every cluster is one
pixel, nothing but the published formulas remains. As in Olofsson et al., there is no correction for
strata of which a large part was sampled, so their intervals are a little wide rather than narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILE = 1.96  # of the normal distribution, for 95 %, as it stands in both papers


@dataclass(frozen=True)
class Sample:
    """What was observed, one row a pixel, or a row for all like pixels of a cluster.

    Attributes:
        strata: (n,) int64, stratum of each row, from 0.
        mapped: (n,) int64, class in the map, from 0.
        reference: (n,) int64, class in truth, from 0.
        clusters: (n,) int64, what was drawn or looked at at once; any numbers.
        sizes: (n,) float64, ground that a row stands for within its stratum, square metres.
        areas: (H,) float64, area of each stratum, hectares.
        classes: number of classes.
    """

    strata: NDArray[np.int64]
    mapped: NDArray[np.int64]
    reference: NDArray[np.int64]
    clusters: NDArray[np.int64]
    sizes: NDArray[np.float64]
    areas: NDArray[np.float64]
    classes: int

    @property
    def clusters_per_stratum(self) -> NDArray[np.int64]:
        """(H,) clusters in each stratum."""
        pairs = np.unique(np.stack([self.strata, self.clusters]), axis=1)
        return np.bincount(pairs[0], minlength=self.areas.size)


@dataclass(frozen=True)
class Estimates:
    """Figures and their standard errors, element by element; NaN where they cannot be told.

    Attributes:
        values: (...,) float64.
        errors: (...,) float64.
    """

    values: NDArray[np.float64]
    errors: NDArray[np.float64]

    @property
    def margins(self) -> NDArray[np.float64]:
        """Half the width of the 95 % interval."""
        return QUANTILE * self.errors


@dataclass(frozen=True)
class Assessed:
    """All figures of a map; shares are 0 to 1.

    Attributes:
        proportions: (K, K) float64, share of the whole area; rows are the map, columns the truth.
        overall: (1,) overall accuracy.
        users: (K,) user's accuracy.
        producers: (K,) producer's accuracy.
        f1: (K,) F1 score.
        iou: (K,) intersection over union.
        hectares: (K,) area in truth.
    """

    proportions: NDArray[np.float64]
    overall: Estimates
    users: Estimates
    producers: Estimates
    f1: Estimates
    iou: Estimates
    hectares: Estimates


def assess(sample: Sample) -> Assessed:
    """Estimate all figures of a map.

    Args:
        sample: with two clusters or more in each stratum, see ``clusters_per_stratum``.
    """
    total = sample.areas.sum()
    in_stratum = np.bincount(sample.strata, sample.sizes, sample.areas.size)
    weights = sample.sizes * (sample.areas / in_stratum)[sample.strata]  # hectares of each row
    proportions = np.zeros((sample.classes, sample.classes))
    np.add.at(proportions, (sample.mapped, sample.reference), weights / total)
    estimate = _Estimator(sample, weights)
    numbers = np.arange(sample.classes)[:, None]
    mapped, present = sample.mapped == numbers, sample.reference == numbers  # (K, n)
    hits, everything = mapped & present, np.ones((1, sample.strata.size), bool)
    shares = estimate.ratios(present, np.broadcast_to(everything, present.shape))
    return Assessed(
        proportions=proportions,
        overall=estimate.ratios((sample.mapped == sample.reference)[None], everything),
        users=estimate.ratios(hits, mapped),
        producers=estimate.ratios(hits, present),
        f1=estimate.ratios(2 * hits, mapped.astype(int) + present),
        iou=estimate.ratios(hits, mapped | present),
        hectares=Estimates(shares.values * total, shares.errors * total),
    )


class _Estimator:
    """Ratios of totals, and their standard errors."""

    def __init__(self, sample: Sample, weights: NDArray[np.float64]) -> None:
        self._strata, self._weights = sample.strata, weights
        self._in_stratum = np.bincount(sample.strata, weights, sample.areas.size)
        drawn = sample.clusters_per_stratum
        with np.errstate(divide="ignore", invalid="ignore"):
            self._factors = np.sqrt(drawn / (drawn - 1))[sample.strata]
        _, self._clusters = np.unique(sample.clusters, return_inverse=True)

    def ratios(self, tops: NDArray[Any], bottoms: NDArray[Any]) -> Estimates:
        """Return ratios of totals. Both (K, n), a number for each row of the sample."""
        pairs = [
            self._ratio(top.astype(float), bottom.astype(float))
            for top, bottom in zip(tops, bottoms, strict=True)
        ]
        values, errors = np.array(pairs).T
        return Estimates(values, errors)

    def _ratio(self, top: NDArray[np.float64], bottom: NDArray[np.float64]) -> tuple[float, float]:
        whole = float(self._weights @ bottom)
        if not whole:
            return np.nan, np.nan
        ratio = float(self._weights @ top) / whole
        residuals = top - ratio * bottom
        sums = np.bincount(self._strata, self._weights * residuals, self._in_stratum.size)
        means = (sums / np.maximum(self._in_stratum, 1e-300))[self._strata]
        parts = self._weights * self._factors * (residuals - means) / whole
        return ratio, float(np.sqrt((np.bincount(self._clusters, parts) ** 2).sum()))
