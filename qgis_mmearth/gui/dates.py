"""Which rasters are of which date, as far as their names tell."""

import re
from typing import Any, List, Sequence, Tuple

# 2020-06-21, 20200621 (as in the names of Sentinel-2 products), 2020-06 or 2020.
_DATE = re.compile(
    r"(?<!\d)((?:19|20)\d\d)(?:([-_.]?)(0[1-9]|1[0-2])(?:\2(0[1-9]|[12]\d|3[01]))?)?(?!\d)"
)

Named = Tuple[Any, Sequence[str]]  # a raster, and its names, the one that counts most first


def date_of(names: Sequence[str]) -> str:
    """Return the first date in the first name that has one, as YYYY, YYYY-MM or YYYY-MM-DD.

    Returns:
        Empty if no name has one. Dates in words such as these are in order of time.
    """
    found = next(filter(None, map(_DATE.search, names)), None)
    return "-".join(filter(None, found.group(1, 3, 4))) if found else ""


def by_date(rasters: Sequence[Named]) -> List[List[Any]]:
    """Return rasters in groups of one date, the earliest first.

    Of names without dates two are two dates in the order given, and any other number is one date:
    they may be bands of one scene.
    """
    dates = [date_of(names) for _, names in rasters]
    if not all(dates):
        dates = [str(number if len(rasters) == 2 else 0) for number in range(len(rasters))]
    return [
        [raster for number, (raster, _) in enumerate(rasters) if dates[number] == date]
        for date in sorted(set(dates))
    ]
