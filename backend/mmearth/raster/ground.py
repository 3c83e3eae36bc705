"""Which ground rasters show, and which of them show the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from mmearth.raster.grid import Grid, to_geographic

OVERLAP = 0.01  # of the smaller of two; less is the rounding of their rims
RIM = 8  # points that a side is followed by: it is straight on its own map alone


def footprint(grid: Grid) -> shapely.Polygon:
    """Return the outline of a grid in degrees of longitude and latitude.

    Across the antimeridian longitudes go on beyond 180.

    Raises:
        InputError: if its system has no place on Earth.
    """
    share = np.arange(RIM) / RIM
    cols = np.concatenate([share, np.ones(RIM), 1 - share, np.zeros(RIM)]) * grid.width
    rows = np.concatenate([np.zeros(RIM), share, np.ones(RIM), 1 - share]) * grid.height
    places = [grid.transform @ place for place in zip(cols, rows, strict=True)]
    x, y = np.transpose(places)
    lon, lat = (np.asarray(part) for part in to_geographic(grid.crs.to_wkt()).transform(x, y))
    lon = np.where(lon - lon[0] < -180, lon + 360, np.where(lon - lon[0] > 180, lon - 360, lon))
    outline = shapely.Polygon(np.stack([lon, lat], axis=1))
    # What a projection cannot tell of a place is none.
    return outline if np.isfinite([lon, lat]).all() else shapely.Polygon()


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
    here, there = shapely.STRtree(ours).query(theirs)[::-1]
    shared = shapely.area(shapely.intersection(ours[here], theirs[there]))
    smaller = np.minimum(shapely.area(ours[here]), shapely.area(theirs[there]))
    found = shared > OVERLAP * smaller
    return sorted(zip(here[found].tolist(), there[found].tolist(), strict=True))
