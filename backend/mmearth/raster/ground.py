"""Which ground rasters show, and which of them show the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import shapely

from mmearth.raster.grid import Grid, to_geographic

OVERLAP = 0.01  # of the smaller of two; less is the rounding of their rims
RIM = 8  # points that a side is followed by: it is straight on its own map alone


def footprint(grid: Grid) -> shapely.Polygon:
    """Return the outline of a grid in degrees of longitude and latitude.

    Across the antimeridian longitudes go on beyond 180. What has a pole inside counts as all ground
    as far from it as its rim goes: too much rather than too little, as an outline cannot tell it.

    Raises:
        InputError: if its system has no place on Earth.
    """
    share = np.arange(RIM) / RIM
    cols = np.concatenate([share, np.ones(RIM), 1 - share, np.zeros(RIM)]) * grid.width
    rows = np.concatenate([np.zeros(RIM), share, np.ones(RIM), 1 - share]) * grid.height
    places = [grid.transform @ place for place in zip(cols, rows, strict=True)]
    x, y = np.transpose(places)
    lon, lat = (np.asarray(part) for part in to_geographic(grid.crs.to_wkt()).transform(x, y))
    if not np.isfinite([lon, lat]).all():
        return shapely.Polygon()  # what a projection cannot tell of a place is none
    around = np.unwrap(np.append(lon, lon[0]), period=360)
    if abs(around[-1] - around[0]) > 180:  # the rim goes round a pole
        south, north = (lat.min(), 90.0) if lat.mean() > 0 else (-90.0, lat.max())
        return shapely.box(-180.0, south, 180.0, north)
    return shapely.Polygon(np.stack([around[:-1], lat], axis=1))


def overlaps(
    first: Sequence[shapely.Geometry | None], second: Sequence[shapely.Geometry | None]
) -> list[tuple[int, int]]:
    """Return which footprints of the first overlap which of the second, as pairs of numbers.

    Args:
        first: None of what has no place, which overlaps nothing.
        second: likewise.
    """
    ours, theirs = (
        np.array([one or shapely.Polygon() for one in some]) for some in (first, second)
    )
    if not (ours.size and theirs.size):
        return []
    found: set[tuple[int, int]] = set()
    for turn in (-360.0, 0.0, 360.0):  # the same ground may be told by longitudes a turn apart
        turned = shapely.transform(theirs, partial(np.add, (turn, 0.0)))
        here, there = shapely.STRtree(ours).query(turned)[::-1]
        shared = shapely.area(shapely.intersection(ours[here], turned[there]))
        smaller = np.minimum(shapely.area(ours[here]), shapely.area(turned[there]))
        enough = shared > OVERLAP * smaller
        found.update(zip(here[enough].tolist(), there[enough].tolist(), strict=True))
    return sorted(found)
