"""Cut overlapping scenes into patches of several dates."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray

from mmearth import __version__
from mmearth.api import Plan, Problem, ViewsResult, ViewsSpec
from mmearth.errors import EmptyAreaError, InputError, MMEarthError, OutputError, counted
from mmearth.files import check_space, explained, staged
from mmearth.jobs import mapping
from mmearth.jobs.context import JobContext
from mmearth.jobs.parallel import each
from mmearth.jobs.work import taken
from mmearth.pretraining.datasets.blocks import block_at, said_of_parts, split_ground
from mmearth.pretraining.datasets.listing import HELD, INDEX, LEARNED, Entry, write_listing
from mmearth.pretraining.temporal.patches import Patch, components, find_patches, squares
from mmearth.pretraining.temporal.scenes import (
    Scene,
    find_scenes,
    patch_grid,
    place_name,
    positions,
    write_patches,
)
from mmearth.raster.ground import footprint
from mmearth.raster.write import check_writable
from mmearth.settings import Settings

REQUEST = "request.txt"  # of an unfinished folder: what it is made of
LOOKED_SHARE, CHOSEN_SHARE = 0.4, 0.45  # of the progress bar
Result = TypeVar("Result")


def plan(spec: ViewsSpec, _settings: Settings) -> Plan:
    """Say how many patches there are at most. What stands in the way is collected, not raised.

    Pixels are not read: what has no data and what is under clouds is counted as if it were seen.
    """
    result = Plan()
    try:
        _target(spec)
        scenes = find_scenes(Path(spec.scenes), spec.images, spec.masks)
        result.warnings = _warnings(scenes)
        result.tiles = sum(
            (scene.grid.width // spec.size) * (scene.grid.height // spec.size) for scene in scenes
        )
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
    return result


def run(spec: ViewsSpec, context: JobContext) -> ViewsResult:
    """Find out where scenes show a patch, choose patches, and write them.

    Patches are written to a folder beside the result, which takes its name when all are there. A
    run that was cancelled or killed goes on with it when the same request comes again.

    Raises:
        MMEarthError: whatever stands in the way.
    """
    context.report(0.0, "Looking for scenes", None)
    context.check_cancelled()
    target = _target(spec)
    scenes = find_scenes(Path(spec.scenes), spec.images, spec.masks)
    missing = 1 - spec.minimum_valid
    looks = [(scene, spec.size, spec.step, missing, spec.clouds) for scene in scenes]
    places = _each(positions, looks, context, (0.0, LOOKED_SHARE), "Looking at scenes")
    patches = _choose(spec, scenes, places, context)
    if not patches:
        raise EmptyAreaError(
            f"None of {counted(len(scenes), 'scene')} shows a patch of {spec.size} x {spec.size} "
            f"pixels on {counted(spec.least_dates, 'date')}.",
            "Choose smaller patches, fewer dates, or allow for more clouds or gaps.",
        )
    shares = {LEARNED: 1 - spec.validation, HELD: spec.validation}
    parts = _parts(spec, scenes, patches, shares)
    with taken(target, context.settings):
        _write(spec, target, scenes, patches, parts, context)
    dates = Counter(len(patch.scenes) for patch in patches)
    return ViewsResult(
        outputs=spec.outputs,
        scenes=len(scenes),
        places=dict(sorted(dates.items())),
        parts={name: sum(len(patches[n].scenes) for n in held) for name, held in parts.items()},
        warnings=[
            *_warnings(scenes),
            *_without_patch(spec, places),
            *said_of_parts(parts, shares, spec.block_km),
        ],
        seconds=context.elapsed(),
    )


def _choose(
    spec: ViewsSpec,
    scenes: Sequence[Scene],
    places: Sequence[NDArray[np.int64]],
    context: JobContext,
) -> list[Patch]:
    """Lay patches, each component of overlapping scenes in a process of its own."""
    calls = []
    for series in sorted({scene.series for scene in scenes}):
        members = [number for number, scene in enumerate(scenes) if scene.series == series]
        outlines = [_outline(places[number], spec.size) for number in members]
        for component in components(outlines):
            numbers = [members[one] for one in component]
            own = {number: places[number] for number in numbers}
            dates = {number: scenes[number].date for number in numbers}
            calls.append((own, dates, spec.size, spec.least_dates))
    shares = (LOOKED_SHARE, CHOSEN_SHARE)
    found = _each(find_patches, calls, context, shares, "Choosing patches")
    return [patch for patches in found for patch in patches]


def _outline(places: NDArray[np.int64], size: int) -> shapely.Geometry:
    """Return a footprint: the hull of all patches that a scene shows."""
    return shapely.convex_hull(shapely.multipolygons(squares(places, size)))


def _parts(
    spec: ViewsSpec,
    scenes: Sequence[Scene],
    patches: Sequence[Patch],
    shares: Mapping[str, float],
) -> dict[str, list[int]]:
    """Divide patches into parts by the blocks of ground that their middles lie in."""
    grids = [
        patch_grid(scenes[patch.scenes[0]], patch.col, patch.row, spec.size) for patch in patches
    ]
    grounds = [footprint(grid) for grid in grids]
    middles = [ground.centroid for ground in grounds]
    blocks = [block_at(middle.x, middle.y, spec.block_km) for middle in middles]
    return split_ground(blocks, grounds, shares)


def _write(
    spec: ViewsSpec,
    target: Path,
    scenes: Sequence[Scene],
    patches: Sequence[Patch],
    parts: Mapping[str, Sequence[int]],
    context: JobContext,
) -> None:
    part_of = {number: name for name, held in parts.items() for number in held}
    folder = target.with_name(f"{target.name}.unfinished")
    files: dict[int, list[tuple[int, int, Path]]] = {}
    rows = []
    for which, patch in enumerate(patches):
        for number in patch.scenes:
            scene = scenes[number]
            place = place_name(scene, patch.col, patch.row)
            file = f"{place}/{scene.name}.tif"
            facts = {"place": place, "date": scene.date, "scene": str(scene.path)}
            rows.append(Entry(file=file, split=part_of[which], **facts))
            files.setdefault(number, []).append((patch.col, patch.row, folder / file))
    _begin(folder, _fingerprint(spec, scenes))
    missing = {n: [file for *_, file in own if not file.exists()] for n, own in files.items()}
    needed = sum(len(own) * scenes[n].bytes_of(spec.size) for n, own in missing.items())
    check_space(folder, needed)
    calls = [(scenes[number], spec.size, own) for number, own in files.items()]
    _each(write_patches, calls, context, (CHOSEN_SHARE, 1.0), "Writing patches of scenes")
    with explained(target):
        with staged(folder / INDEX) as temporary:
            write_listing(temporary, rows)
        (folder / REQUEST).unlink()
        os.replace(folder, target)


def _begin(folder: Path, fingerprint: str) -> None:
    """Go on with a folder of the same request, or begin it anew.

    Raises:
        OutputError: if the folder is none of ours.
    """
    request = folder / REQUEST
    with explained(folder):
        if request.exists() and request.read_text("utf-8") == fingerprint:
            for leftover in folder.glob("*/.*"):  # of a run that was killed while it wrote
                leftover.unlink()
            return
        if folder.exists():
            if not request.exists() and any(folder.iterdir()):
                raise OutputError(
                    f"{folder} holds other files than an unfinished result's.",
                    "Move it away, or choose another name for the result.",
                )
            shutil.rmtree(folder)
        folder.mkdir()
        request.write_text(fingerprint, "utf-8")


def _fingerprint(spec: ViewsSpec, scenes: Sequence[Scene]) -> str:
    masks = [Path(scene.mask) for scene in scenes if scene.mask]
    stamps = mapping.stamps([*(scene.path for scene in scenes), *masks])
    return mapping.digest(__version__, spec.model_dump(mode="json", exclude={"outputs"}), stamps)


def _each(
    function: Callable[..., Result],
    calls: Sequence[tuple[object, ...]],
    context: JobContext,
    shares: tuple[float, float],
    what: str,
) -> list[Result]:
    """Call a function many times, as many at once as there are threads; results in order."""
    first, last = shares
    results: dict[int, Result] = {}
    begin = context.elapsed()
    for number, result in each(
        function, calls, context.settings.cpu_threads, context.check_cancelled
    ):
        results[number] = result
        done = len(results)
        left = (context.elapsed() - begin) / done * (len(calls) - done)
        stage = f"{what}: {done:,} of {len(calls):,}"
        context.report(first + (last - first) * done / len(calls), stage, left)
    return [results[number] for number in range(len(calls))]


def _target(spec: ViewsSpec) -> Path:
    """Return the folder of the result.

    Raises:
        InputError: if it is no full path, or the step does not divide the side of a patch.
        OutputError: if it exists or cannot be written.
    """
    if spec.size % spec.step:
        raise InputError(
            f"Steps of {spec.step} pixels do not divide patches of {spec.size} pixels.",
            f"Choose {spec.size // 4} or {spec.size}, for example.",
        )
    target = Path(spec.outputs.folder)
    if not target.is_absolute():
        raise InputError(f"{target} is no full path.", "Give the whole path of the result.")
    if target.exists():
        raise OutputError(f"{target} exists.", "Choose a folder that does not exist yet.")
    if target.is_relative_to(Path(spec.scenes)):
        raise InputError(
            f"{target} lies in the folder of the scenes.",
            "Choose another: patches would be taken for scenes.",
        )
    check_writable([target], 0)
    return target


def _without_patch(spec: ViewsSpec, places: Sequence[NDArray[np.int64]]) -> list[Problem]:
    lacking = sum(not len(found) for found in places)
    if not lacking:
        return []
    return [
        Problem(
            code="no_patch",
            message=f"{lacking:,} of {counted(len(places), 'scene')} show no whole patch of "
            f"{spec.size} pixels that has data and is free of clouds, as far as is asked for.",
            advice="Choose smaller patches or steps, or allow for more clouds or gaps.",
        )
    ]


def _warnings(scenes: Sequence[Scene]) -> list[Problem]:
    warnings = []
    series = 1 + max(scene.series for scene in scenes)
    if series > 1:
        warnings.append(
            Problem(
                code="several_grids",
                message=f"The scenes lie on {series} different grids of pixels. Scenes of "
                "different grids make no patches together, and may show the same ground.",
                advice="Warp them onto one grid if their dates belong together.",
            )
        )
    undated = sum(not scene.date for scene in scenes)
    if undated:
        warnings.append(
            Problem(
                code="no_date",
                message=f"{counted(undated, 'scene')} of {len(scenes):,} state no date; each is "
                "taken for a date of its own.",
                advice="Put the date into the files' names, as in scene_20220607.tif.",
            )
        )
    return warnings
