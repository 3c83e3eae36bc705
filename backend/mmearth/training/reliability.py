"""How reliable a model's probabilities are before and after calibration: figures and a diagram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmearth.reports.charts import side_by_side
from mmearth.training.metrics import Reliability, reliability
from mmearth.training.report.certainty import DIAGRAM, draw_reliability, points_in_words


@dataclass(frozen=True)
class Diagram:
    """How often classes are right at the probability that they were given.

    Attributes:
        mapped: of the likeliest class of each pixel.
        classes: of each class, of all pixels, whatever they are mapped as.
        agreement: share of pixels whose likeliest class is right.
    """

    mapped: Reliability
    classes: tuple[Reliability, ...]
    agreement: float

    @property
    def error(self) -> float:
        """The expected calibration error (ECE; Guo et al. 2017, equation 3)."""
        return self.mapped.error

    @property
    def classwise_error(self) -> float:
        """The mean of the classes' own errors (classwise-ECE; Kull et al. 2019, section 2)."""
        return float(np.mean([found.error for found in self.classes]))


def diagram(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.int64] | NDArray[np.floating],
    bins: int = 10,
) -> Diagram:
    """Return the reliability of probabilities.

    Args:
        probabilities: (n, K), sums to 1 over K; a probability of each pixel and class.
        truth: (n,) class numbers from 0, or (n, K) probabilities of the classes: then a class is
            right in the share of pixels that these sum up to.
        bins: of equal width.
    """
    mapped = probabilities.argmax(axis=1)
    pixels = np.arange(mapped.size)
    shares = truth.T if truth.ndim == 2 else np.arange(probabilities.shape[1])[:, None] == truth
    right = shares[mapped, pixels]
    return Diagram(
        reliability(probabilities[pixels, mapped], right, bins),
        tuple(
            reliability(own, share, bins)
            for own, share in zip(probabilities.T, shares, strict=True)
        ),
        float(right.mean()),
    )


def density_error(
    probability: NDArray[np.floating],
    share: NDArray[np.bool_] | NDArray[np.floating],
    units: NDArray[np.int64],
) -> tuple[float, float]:
    """Return how far the mean probability of a class is from its true cover, by unit.

    Args:
        probability: (n,) of the class.
        share: (n,) whether a pixel is of the class, or how likely that is.
        units: (n,) unit of each pixel, such as its tile; units count alike.

    Returns:
        Mean error, positive where there is too much of the class, and root mean square error.
    """
    _, places = np.unique(units, return_inverse=True)
    sums = np.bincount(places, probability.astype(np.float64) - share)
    errors = sums / np.bincount(places)
    return float(errors.mean()), float(np.sqrt((errors**2).mean()))


@dataclass(frozen=True)
class Calibration:
    """What a temperature does to the probabilities of pixels that it was not fitted to.

    Attributes:
        before: with the temperature 1.
        after: with the model's.
    """

    before: Diagram
    after: Diagram

    def figures(self, data: str) -> list[dict[str, Any]]:
        """Return rows of a card's measured figures; ``data`` says what they were measured on."""
        return [
            {"name": f"{name}, {when} calibration", "value": round(value, 4), "data": data}
            for when, found in (("before", self.before), ("after", self.after))
            for name, value in (
                ("Calibration error (ECE)", found.error),
                ("Calibration error, mean of classes", found.classwise_error),
            )
        ]

    def draw(self, number: int, name: str) -> str:
        """Return the diagram as an SVG file: all classes together, and one of them by itself.

        Args:
            number: of the one class, from 0.
            name: of that class, as within a sentence.
        """
        before, after = self.before, self.after
        both = _drawn(
            "mapped",
            "How often the map is right, by the certainty that it states",
            before.mapped,
            after.mapped,
            x="All classes: certainty that the map states",
            y="Right",
        )
        one = _drawn(
            "class",
            f"How often there is {name}, by the probability that is stated",
            before.classes[number],
            after.classes[number],
            x=f"Probability of {name}",
            y=name.capitalize(),
        )
        return side_by_side([both, one], *DIAGRAM)


def _drawn(key: str, title: str, before: Reliability, after: Reliability, *, x: str, y: str) -> str:
    words = f"Before: {points_in_words(before)}. After calibration: {points_in_words(after)}."
    return draw_reliability(key, title, words, after, name="calibrated", before=before, x=x, y=y)
