"""From what was observed to figures: classes matched, strata weighed, accuracies and areas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmearth.api import Problem
from mmearth.assessment.classraster import ClassRaster, MapClass, Tally
from mmearth.assessment.estimators import Assessed, Sample, assess
from mmearth.assessment.matching import match_classes
from mmearth.assessment.reference import Observed
from mmearth.errors import EmptyAreaError, InputError, listed

LEAST_CLUSTERS = 2  # of a stratum: of a single one, nothing is known of how much they vary


@dataclass(frozen=True)
class Evaluation:
    """All that is told of a map.

    Attributes:
        classes: of the map or the reference, by code.
        matrix: (K, K) int64, reference pixels; rows are the map, columns the reference.
        mapped_hectares: (K,) what the map shows.
        assessed: figures.
        clusters: points, features or blocks that were compared.
        observed: what the figures rest on.
        warnings: what was left out, and on what the intervals rest.
    """

    classes: tuple[MapClass, ...]
    matrix: NDArray[np.int64]
    mapped_hectares: NDArray[np.float64]
    assessed: Assessed
    clusters: int
    observed: Observed
    warnings: tuple[Problem, ...]


def evaluate(raster: ClassRaster, tally: Tally, observed: Observed) -> Evaluation:
    """Compute all figures.

    Args:
        raster: the map.
        tally: of all of it.
        observed: what is known to be true.

    Raises:
        EmptyAreaError: if the map has no data.
        InputError: if the reference has one class only, or others than the map; if a stratum has
            fewer than two observations.
    """
    if not tally.values:
        raise EmptyAreaError(f"{raster.path} has no data at all.", "Choose another map.")
    codes = {*tally.values, *raster.named}
    if observed.zero_is_none and 0 not in codes:
        observed = observed.without("0")
    if len(observed.present) < 2:
        raise InputError(
            f"Expected a reference of two classes or more where the map has data, found only "
            f"{listed(map(repr, observed.present)) or 'pixels of none'}.",
            "Add some of another class: what is confused shows only between classes.",
        )
    known = [raster.class_of(value) for value in sorted(codes)]
    meant = match_classes(observed.present, known)
    values = sorted({*tally.values, *meant.values()})
    numbers = {value: number for number, value in enumerate(values)}
    mapped = np.array([numbers[value] for value in observed.mapped.tolist()], np.int64)
    reference = np.array(
        [numbers[meant[observed.values[number]]] for number in observed.reference.tolist()],
        np.int64,
    )
    strata, areas, titles = _strata(raster, tally, observed)
    sample = Sample(
        strata, mapped, reference, observed.clusters, observed.sizes, areas, len(values)
    )
    _require_enough(sample, titles, observed)
    matrix = np.zeros((len(values), len(values)), np.int64)
    np.add.at(matrix, (mapped, reference), observed.pixels)
    return Evaluation(
        tuple(raster.class_of(value) for value in values),
        matrix,
        np.array([tally.hectares(value) for value in values]),
        assess(sample),
        np.unique(observed.clusters).size,
        observed,
        (*observed.warnings, *_other_titles(raster, observed), *_caution(observed)),
    )


def _strata(
    raster: ClassRaster, tally: Tally, observed: Observed
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[str]]:
    """Return the stratum of each observation, and hectares and title of each stratum.

    They are those that the sample was drawn from; else the classes of the map.
    """
    if observed.design:
        areas = np.array([row.hectares for row in observed.design])
        return observed.strata, areas, [row.title for row in observed.design]
    places = {value: place for place, value in enumerate(tally.values)}
    strata = np.array([places[value] for value in observed.mapped.tolist()], np.int64)
    areas = np.array([tally.hectares(value) for value in tally.values])
    return strata, areas, [raster.class_of(value).title for value in tally.values]


def _require_enough(sample: Sample, titles: list[str], observed: Observed) -> None:
    drawn = sample.clusters_per_stratum
    few = [
        f"{title!r} ({count})"
        for title, count in zip(titles, drawn, strict=True)
        if count < LEAST_CLUSTERS
    ]
    if few:
        where = "stratum of the sample" if observed.design else "class of the map"
        raise InputError(
            f"Expected {LEAST_CLUSTERS} {observed.unit}s or more of the reference in each {where}, "
            f"found fewer in {listed(few)}.",
            "Without them nothing can be told of these places. Interpret more points there, or "
            "join such classes with others in the map.",
        )


def _other_titles(raster: ClassRaster, observed: Observed) -> tuple[Problem, ...]:
    """Say where sample and map mean different classes by one code, as far as titles tell."""
    differing = [
        f"{row.value} is {row.title!r} in the sample and {raster.class_of(row.value).title!r} on "
        "the map"
        for row in observed.design
        if row.value in raster.named
        and row.title != str(row.value)
        and row.title.casefold() != raster.class_of(row.value).title.casefold()
    ]
    if not differing:
        return ()
    return (
        Problem(
            code="other_titles",
            message=f"Sample and map give other names to the same codes: {listed(differing)}.",
            advice="They count as the same class. If they are not, interpret the points in a field "
            "of their own, by the names that the map has.",
        ),
    )


def _caution(observed: Observed) -> tuple[Problem, ...]:
    """Say on what the intervals rest, if the reference was not drawn by us."""
    if observed.design:
        return ()
    words = (
        "The reference was not drawn by ‘sampledesign’. Its areas and intervals hold only if its "
        f"{observed.unit}s were drawn at random in each class of the map; places that were chosen "
        "because they are typical or easy to see make the map look better than it is."
    )
    return (
        Problem(code="not_designed", message=words, advice="Draw a sample with ‘sampledesign’."),
    )
