"""Two thresholds at a time, tuned on some folds of the sites and judged on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOLDS = 5


def folds(count: int) -> NDArray[np.int64]:
    """Return the fold that each site belongs to."""
    return np.random.default_rng(0).permutation(count) % FOLDS


def others(fold: int) -> list[int]:
    """Return all folds but one."""
    return [number for number in range(FOLDS) if number != fold]


def f1(counts: NDArray[np.int64]) -> float:
    """Return F1 of right, called and damaged pixels."""
    return float(2 * counts[0] / (counts[1] + counts[2]))


def pooled(counts: Sequence[NDArray[np.int64]]) -> tuple[float, float]:
    """Return F1 of all folds together, and its standard deviation over folds."""
    return f1(np.sum(counts, axis=0)), float(np.std([f1(part) for part in counts], ddof=1))


@dataclass(frozen=True)
class Tally:
    """What a rule calls at each pair of its thresholds, by folds of sites.

    Attributes:
        steps: (E,) thresholds of the evidence.
        limits: (L,) values of ``brightest``.
        called: (FOLDS, E, L) pixels.
        right: (FOLDS, E, L), of them damaged.
        damaged: (FOLDS,) pixels.
    """

    steps: NDArray[np.float64]
    limits: NDArray[np.float64]
    called: NDArray[np.int64]
    right: NDArray[np.int64]
    damaged: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        evidence: NDArray[np.float32],
        shade: NDArray[np.float32],
        damaged: NDArray[np.bool_],
        fold: NDArray[np.int64],
    ) -> Tally:
        """Count pixels, each array (n,); infinite values are called or not at any thresholds."""
        told = evidence[np.isfinite(evidence)]
        steps = np.unique(np.quantile(told, np.linspace(0.5, 0.999, 500)))
        limits = np.unique(np.quantile(shade[np.isfinite(shade)], np.linspace(0.5, 1, 61)))
        shape = (FOLDS, len(steps) + 1, len(limits) + 1)
        cell = np.ravel_multi_index(
            (fold, np.searchsorted(steps, evidence, "right"), np.searchsorted(limits, shade)),
            shape,
        )
        counts = []
        for chosen in (cell, cell[damaged]):
            count = np.bincount(chosen, minlength=int(np.prod(shape))).reshape(shape)
            # At least a step, and no brighter than a limit.
            count = np.flip(np.cumsum(np.flip(count, 1), 1), 1).cumsum(2)
            counts.append(count[:, 1:, :-1])
        return cls(steps, limits, *counts, np.bincount(fold[damaged], minlength=FOLDS))

    def best(self, folds: Sequence[int] = range(FOLDS)) -> tuple[float, tuple[int, int]]:
        """Return the best F1 on some folds, and the places of its thresholds."""
        own = list(folds)
        total = self.called[own].sum(axis=0) + self.damaged[own].sum()
        scores = 2 * self.right[own].sum(axis=0) / total
        place = np.unravel_index(scores.argmax(), scores.shape)
        return float(scores[place]), (int(place[0]), int(place[1]))

    def counts(self, fold: int, place: tuple[int, int]) -> NDArray[np.int64]:
        """Return right, called and damaged pixels of a fold."""
        own = (fold, *place)
        return np.array([self.right[own], self.called[own], self.damaged[fold]])

    def cross_validated(self) -> tuple[float, float]:
        """Return F1 over all sites, each judged by thresholds tuned without it, and its spread."""
        return pooled([self.counts(one, self.best(others(one))[1]) for one in range(FOLDS)])
