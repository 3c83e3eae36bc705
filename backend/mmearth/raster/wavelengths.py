"""Pairing the bands of a model with the bands of a file by their central wavelengths.

Each band is read from the nearest one within its tolerance, and no two from the same one if another
is at hand: the pairing is the alignment of the two sorted lists that leaves the smallest sum of
distances, where a band without a partner costs as much as its tolerance. Where a file has fewer
bands than the model, neighbours then share the nearest one, and the caller can tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmearth.raster.source import BandSource
from mmearth.sensors import SensorBand

EQUAL_NM = 0.05  # closer together, two bands are the same twice: of another date or scene


def pair_by_wavelength(
    bands: Sequence[SensorBand], sources: Sequence[BandSource]
) -> dict[str, list[BandSource]]:
    """Find the source of each band, all at once.

    Args:
        bands: bands that are looked for; those that have no wavelength are left out.
        sources: bands of one scene; those that state no wavelength are left out.

    Returns:
        By name of band: its source, or several of the same wavelength. Bands without a source
        within their tolerance are absent.
    """
    placed = [(band.wavelength_nm, band) for band in bands if band.wavelength_nm is not None]
    placed.sort(key=lambda item: item[0])
    bands = [band for _, band in placed]
    found, held = _places(sources)
    if not bands or not held:
        return {}
    wanted = np.array([wavelength for wavelength, _ in placed])
    tolerance = np.array([band.tolerance_nm for band in bands])
    distance = np.abs(wanted[:, None] - found[None, :])  # (bands, places)
    nearest = distance.argmin(axis=1)
    within = distance.min(axis=1) <= tolerance
    return {
        band.name: held[nearest[row] if partner is None else partner]
        for row, (band, partner) in enumerate(zip(bands, _align(distance, tolerance), strict=True))
        if within[row]
    }


def _places(sources: Sequence[BandSource]) -> tuple[NDArray[np.float64], list[list[BandSource]]]:
    """Return the different wavelengths, ascending, and the sources at each of them."""
    stated = [(s.wavelength_nm, s) for s in sources if s.wavelength_nm is not None]
    wavelengths: list[float] = []
    held: list[list[BandSource]] = []
    for wavelength, source in sorted(stated, key=lambda item: item[0]):
        if not wavelengths or wavelength - wavelengths[-1] > EQUAL_NM:
            wavelengths.append(wavelength)
            held.append([])
        held[-1].append(source)
    return np.array(wavelengths), held


def _align(distance: NDArray[np.float64], tolerance: NDArray[np.float64]) -> list[int | None]:
    """Return the place that each band is read from, None if it is better off without its own.

    The alignment of two sequences by Needleman and Wunsch (1970): on a line nothing is gained by
    pairs that cross.

    Args:
        distance: (bands, places) in nanometres, both sorted by wavelength.
        tolerance: (bands,) largest distance of a pair, and cost of a band that stays alone.
    """
    rows, columns = distance.shape
    alone = tolerance.tolist()
    pair = np.where(distance <= tolerance[:, None], distance, np.inf).tolist()
    cost = [[0.0] * (columns + 1)]  # of the first bands with the first places
    for row in range(rows):
        above, line = cost[-1], [cost[-1][0] + alone[row]]
        for column in range(columns):
            paired = above[column] + pair[row][column]
            line.append(min(paired, above[column + 1] + alone[row], line[column]))
        cost.append(line)
    partners: list[int | None] = [None] * rows
    row, column = rows, columns
    while row and column:
        here = cost[row][column]
        if here == cost[row - 1][column - 1] + pair[row - 1][column - 1]:
            row, column = row - 1, column - 1
            partners[row] = column
        elif here == cost[row][column - 1]:
            column -= 1
        else:
            row -= 1
    return partners
