"""The baseline of every report: a random forest on the raw bands, with the same labels.

What a network adds is what it does better than this (Breiman 2001); many maps are still made so.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from mmearth.errors import JobCancelled

TREES = 100  # as scikit-learn has it; twice as many gain half a point at most (benchmark fewshot)


def forest_probabilities(
    reflectance: NDArray[np.float32],
    classes: NDArray[np.int64],
    wanted: NDArray[np.float32],
    count: int,
    *,
    seed: int = 0,
    trees: int = TREES,
    balanced: bool = True,
) -> NDArray[np.float32]:
    """Train a random forest, and classify other pixels.

    Args:
        reflectance: (n, C) float32, of the pixels to learn from.
        classes: (n,) int64, their class numbers from 0.
        wanted: (m, C) float32, of the pixels to classify.
        count: number of classes, K.
        seed: of the trees.
        trees: number of trees.
        balanced: whether classes count alike, however many pixels each has.

    Returns:
        (m, K) float32; 0 for classes that were not learned.
    """
    weights = "balanced" if balanced else None
    forest = RandomForestClassifier(trees, class_weight=weights, random_state=seed).fit(
        reflectance, classes
    )
    result = np.zeros((len(wanted), count), np.float32)
    result[:, forest.classes_] = forest.predict_proba(wanted)
    return result


def tested_forests(
    reflectance: NDArray[np.float32],
    classes: NDArray[np.int64],
    count: int,
    learned: NDArray[np.bool_],
    tested: NDArray[np.bool_],
    *,
    seed: int = 0,
    trees: int = TREES,
    threads: int = 1,
    cancelled: Callable[[], bool] = lambda: False,
) -> NDArray[np.float32]:
    """Classify each pixel by a forest of its split.

    Args:
        reflectance: (n, C) float32.
        classes: (n,) int64, class numbers from 0.
        count: number of classes, K.
        learned: (S, n) bool, the pixels that the forest of each split learns from.
        tested: (S, n) bool, the pixels that it classifies.
        seed: of the trees.
        trees: number of trees of each forest.
        threads: forests that are grown side by side.
        cancelled: asked before each forest.

    Returns:
        (n, K) float32; 0 for pixels of no split.

    Raises:
        JobCancelled: if ``cancelled`` says so.
    """
    result = np.zeros((len(classes), count), np.float32)

    def grow(some: NDArray[np.bool_], others: NDArray[np.bool_]) -> NDArray[np.float32]:
        if cancelled():
            raise JobCancelled("Cancelled.")
        return forest_probabilities(
            reflectance[some], classes[some], reflectance[others], count, seed=seed, trees=trees
        )

    with ThreadPoolExecutor(threads, "forests") as pool:
        grown = pool.map(grow, learned, tested)
        for others, found in zip(tested, grown, strict=True):
            result[others] = found
    return result
