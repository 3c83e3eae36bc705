"""Which rasters are of which date, as far as their names tell."""

import re
from typing import Any, List, Sequence, Tuple

_YEAR = r"(?P<y>(?:19[7-9]|20\d)\d)"
_MONTH = r"(?P<m>0[1-9]|1[0-2])"
_DAY = r"(?P<d>0[1-9]|[12]\d|3[01])"
# The surest first: names hold other numbers too, such as path and row of Landsat's products.
_DATES = [
    re.compile(rf"(?<!\d){pattern}(?!\d)")
    for pattern in (
        # 2020-06-21, 20200621 (as in the names of Sentinel-2 products) or 21.06.2020.
        rf"{_YEAR}(?P<s>[-_.]?){_MONTH}(?P=s){_DAY}",
        rf"{_DAY}\.{_MONTH}\.{_YEAR}",
        rf"{_YEAR}[-_.]{_MONTH}",
        _YEAR,
    )
]

Named = Tuple[Any, Sequence[str]]  # a raster, and its names, the one that counts most first


def date_of(names: Sequence[str]) -> str:
    """Return the date that names tell, as YYYY, YYYY-MM or YYYY-MM-DD.

    A full date in any name counts more than a month, and that more than a year; of alike ones the
    first. Years count from 1970 on, before which no satellite took such images.

    Returns:
        Empty if no name has one. Dates in words such as these are in order of time.
    """
    for pattern in _DATES:
        for found in filter(None, map(pattern.search, names)):
            parts = found.groupdict()
            return "-".join(parts[part] for part in "ymd" if part in parts)
    return ""


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
