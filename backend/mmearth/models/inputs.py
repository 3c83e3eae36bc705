"""What the images were like that a model was trained on, and whether a scene is like them.

A tile or scene is described by few numbers that hold for large and small ones alike: the darkest
and the brightest hundredth and the median of each band. Usual is what all training tiles but one in
a hundred have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmearth.api import Problem
from mmearth.errors import listed
from mmearth.models.parts import Part
from mmearth.sensors import Sensor

QUANTILES = (0.01, 0.5, 0.99)
UNUSUAL = 0.01
# Ratios are taken of reflectance + this: of deep water's the ratio would say nothing.
HAZE = 0.01
# So many times as bright, dark or apart as usual is worth a word.
MARGIN = 1.35
MOST_NAMED = 3  # bands

Sample = Sequence[NDArray[np.floating]]


class InputStatistics(Part):
    """What is usual of the reflectance of training tiles.

    Attributes:
        tiles: how many there were.
        darkest: highest usual value of the darkest hundredth of a tile, in its darkest band: an
            offset that was left in the values lifts it.
        middle: highest usual median of each band.
        brightest: lowest usual value of the brightest hundredth of each band.
        steps: lowest and highest usual ratio of the medians of each band but the first and the one
            before it.
    """

    tiles: int = Field(gt=0)
    darkest: float
    middle: tuple[float, ...] = Field(min_length=1)
    brightest: tuple[float, ...] = Field(min_length=1)
    steps: tuple[tuple[float, float], ...]

    @property
    def band_count(self) -> int:
        """Number of bands; 0 if they do not agree on one."""
        counts = {len(self.middle), len(self.brightest), len(self.steps) + 1}
        return counts.pop() if len(counts) == 1 else 0


def summary(sample: Sample) -> NDArray[np.float64]:
    """Return what is kept of a tile or scene.

    Args:
        sample: reflectance of some pixels of each band, (n,) each.

    Returns:
        (3, C) float64: darkest hundredth, median and brightest hundredth of each band.
    """
    return np.stack([np.quantile(values, QUANTILES) for values in sample], axis=1)


def statistics(summaries: Sequence[NDArray[np.float64]]) -> InputStatistics:
    """Return what is usual of tiles.

    Args:
        summaries: of ``summary``, a tile each.
    """
    dark, middle, bright = np.stack(summaries, axis=1)
    steps = np.quantile(_steps(middle), (UNUSUAL, 1 - UNUSUAL), axis=0)
    return InputStatistics(
        tiles=len(summaries),
        darkest=round(float(np.quantile(dark.min(axis=1), 1 - UNUSUAL)), 4),
        middle=_rounded(np.quantile(middle, 1 - UNUSUAL, axis=0)),
        brightest=_rounded(np.quantile(bright, UNUSUAL, axis=0)),
        steps=tuple(zip(_rounded(steps[0]), _rounded(steps[1]), strict=True)),
    )


def unlike(
    usual: InputStatistics, found: NDArray[np.float64], names: Sequence[str], sensor: Sensor
) -> Problem | None:
    """Say in words how a scene is unlike the training tiles; None if it is like them.

    Args:
        usual: of the model's card.
        found: of ``summary``.
        names: of the bands, in the model's order.
        sensor: of the model.
    """
    dark, middle, bright = found
    titles = [f"{name} ({sensor.band(name).title})" for name in names]
    if np.any(high := _beyond(middle, np.array(usual.middle))):
        return _problem(
            f"The scene is much brighter than the images that the model was trained on, "
            f"{_bands(titles, high)}.",
            "Check scale and offset of the rasters. If they are right, most of the scene may be "
            "clouds, snow or bare sand: expect weaker results there.",
        )
    if dark.min() > usual.darkest:
        added = sensor.added_offset
        known = f" of newer {sensor.title} products ({-added * sensor.scale:g})" if added else ""
        return _problem(
            "Even the darkest places are bright in every band, as if something had been added to "
            "all values.",
            f"Check the offset{known} in the advanced settings. If it is right, haze or thin "
            "clouds may lie over the scene: expect weaker results there.",
        )
    if np.any(low := _beyond(np.array(usual.brightest), bright)):
        return _problem(
            f"The scene is much darker than the images that the model was trained on, "
            f"{_bands(titles, low)}.",
            "Check scale and offset of the rasters. If they are right, most of the scene may be in "
            "the shade: expect weaker results there.",
        )
    lowest, highest = np.array(usual.steps).reshape(-1, 2).T
    steps = _steps(middle[None])[0]
    apart = np.maximum(steps / highest, lowest / steps)
    if np.any(apart > MARGIN):
        most = int(apart.argmax())
        return _problem(
            f"The bands {titles[most]} and {titles[most + 1]} do not go together as in the images "
            "that the model was trained on.",
            f"Check which raster band is which, and that the rasters are of {sensor.title}. If all "
            "is right, expect weaker results.",
        )
    return None


def _steps(middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ratios of each band's median to that of the one before. (n, C) to (n, C - 1)."""
    lifted = np.maximum(middle, 0) + HAZE
    return np.asarray(lifted[:, 1:] / lifted[:, :-1])


def _beyond(more: NDArray[np.float64], less: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.maximum(more, 0) + HAZE > MARGIN * (np.maximum(less, 0) + HAZE))


def _bands(titles: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    if chosen.all():
        return "in all bands"
    if chosen.sum() > MOST_NAMED:
        return "in most bands" if 2 * chosen.sum() > len(chosen) else "in several bands"
    return f"in {listed(title for title, yes in zip(titles, chosen, strict=True) if yes)}"


def _problem(message: str, advice: str) -> Problem:
    return Problem(code="unlike_training", message=message, advice=advice)


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)
