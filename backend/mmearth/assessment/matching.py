"""Which class of a map each value of a reference means."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mmearth.assessment.classraster import MapClass
from mmearth.errors import InputError, listed
from mmearth.training.labels import is_whole


def match_classes(values: Sequence[str], classes: Collection[MapClass]) -> dict[str, int]:
    """Find the class of each value: by its code, else by its name or title, whatever their case.

    Args:
        values: of the reference.
        classes: of the map.

    Returns:
        Code of the class by value.

    Raises:
        InputError: if a value is of no class, or two have its name.
    """
    found = {value: _codes(value, classes) for value in values}
    if strange := [repr(value) for value, codes in found.items() if len(codes) != 1]:
        raise InputError(
            f"Expected classes of the map, which has {listed(row.shown for row in classes)}; the "
            f"reference has {listed(map(repr, values))}, of which {listed(strange)} cannot be "
            "told which class is meant.",
            "Name the classes alike: by code, name or title.",
        )
    return {value: codes.pop() for value, codes in found.items()}


def _codes(value: str, classes: Collection[MapClass]) -> set[int]:
    if is_whole(value) and any(row.value == int(value) for row in classes):
        return {int(value)}
    text = value.casefold()
    return {row.value for row in classes if text in (row.name.casefold(), row.title.casefold())}
