"""The dates of a comparison: what is asked of each, made ready on the ground that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mmearth.api import DateScene, DisturbanceSpec, MappingSpec, Problem
from mmearth.change.rule import tree_classes
from mmearth.errors import EmptyAreaError, InputError, MMEarthError
from mmearth.inference.tiles import Layout
from mmearth.jobs.prepare import Prepared, prepare
from mmearth.models.registry import find_model
from mmearth.settings import Settings


@dataclass(frozen=True)
class Date:
    """A date that is ready to be mapped.

    Attributes:
        title: what the user reads.
        role: its place among the dates.
        scene: as requested.
        ready: with the grid that all dates share.
    """

    title: str
    role: Literal["before", "between", "after"]
    scene: DateScene
    ready: Prepared


def date_scenes(
    spec: DisturbanceSpec,
) -> Iterator[tuple[str, Literal["before", "between", "after"], DateScene]]:
    """Yield title, role and rasters of each date, in order."""
    roles: list[Literal["before", "between", "after"]]
    roles = ["before", *(["between"] * len(spec.between)), "after"]  # type: ignore[list-item]
    for role, scene in zip(roles, [spec.before, *spec.between, spec.after], strict=True):
        names = [item.label or Path(item.path).name for item in scene.inputs]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield scene.title or "".join(names[:1]) + more, role, scene


def mapping_of(spec: DisturbanceSpec, scene: DateScene) -> MappingSpec:
    """Return the request to map one date."""
    fields = {name: getattr(scene, name) for name in type(scene).model_fields if name != "title"}
    return MappingSpec(
        kind=spec.kind,
        model=spec.model,
        extent=spec.extent,
        tile_size=spec.tile_size,
        **fields,
    )


def prepare_dates(spec: DisturbanceSpec, settings: Settings) -> list[Date]:
    """Make all dates ready to be mapped on the ground that they share.

    Raises:
        MMEarthError: the first thing that stands in the way, and at which date.
    """
    tree_classes(find_model(spec.model, settings.model_folders))
    dates = []
    for title, role, scene in date_scenes(spec):
        try:
            dates.append(Date(title, role, scene, prepare(mapping_of(spec, scene), settings)))
        except MMEarthError as error:
            raise type(error)(told(role, title, error.message), error.advice) from error
    _refuse_twice(dates)
    grid = dates[0].ready.grid
    for date in dates[1:]:
        try:
            for other in dict.fromkeys(band.source.grid for band in date.ready.bands):
                grid = grid.cropped_to(other.bounds, other.crs)
        except EmptyAreaError as error:
            raise EmptyAreaError(
                f"{dates[0].title} and {date.title} do not overlap.",
                "Choose rasters of the same place for all dates.",
            ) from error
    card, tile = dates[0].ready.card, dates[0].ready.layout.rows.tile
    layout = Layout.of(grid.height, grid.width, tile, least=card.overlap, stride=card.stride)
    return [replace(date, ready=replace(date.ready, grid=grid, layout=layout)) for date in dates]


def told(role: str, title: str, message: str) -> str:
    """Return what is to be said of a date, with its place among the dates."""
    words = {"before": "First date", "between": "Date in between", "after": "Last date"}[role]
    return f"{words} ({title}): {message}" if title else f"{words}: {message}"


def _refuse_twice(dates: Sequence[Date]) -> None:
    """Check that no two dates are the same image.

    Raises:
        InputError: if two are.
    """
    seen: dict[tuple[tuple[str, int], ...], str] = {}
    for date in dates:
        bands = tuple((band.source.dataset, band.source.band) for band in date.ready.bands)
        if bands in seen:
            raise InputError(
                f"Two dates are the same image: {seen[bands]}.",
                "Choose images of different dates; nothing can have changed within one.",
            )
        seen[bands] = date.title


def date_warnings(dates: Sequence[Date]) -> list[Problem]:
    """Return the warnings of all dates: what is true of all of them once, else with its date."""
    first, *others = dates
    common = [
        problem
        for problem in first.ready.warnings
        if all(problem in date.ready.warnings for date in others)
    ]
    return common + [
        problem.model_copy(update={"message": told(date.role, date.title, problem.message)})
        for date in dates
        for problem in date.ready.warnings
        if problem not in common
    ]
