"""From a request to something that can run: bands found, numbers scaled, grid and tiles laid out.

Shared by planning, which collects what stands in the way, and running, which stops at the first.
Imports no torch, so a plan is answered in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import uuid
from dataclasses import dataclass
from pathlib import Path

from mmearth.api import BandMatch, MappingSpec, MatchState, Plan, Problem, SegmentSpec, SourceBand
from mmearth.errors import BandMatchError, InputError, MMEarthError, ModelError
from mmearth.inference.tiles import Layout
from mmearth.jobs import density
from mmearth.jobs.siblings import larger_model, with_smaller_model
from mmearth.models.budget import processor_budget
from mmearth.models.card import ModelCard
from mmearth.models.inputs import summary, unlike
from mmearth.models.registry import find_model
from mmearth.raster.grid import Grid
from mmearth.raster.mask import Mask, check_overlap, find_masks
from mmearth.raster.match import distant_bands, match_bands, require_all, shared_bands
from mmearth.raster.radiometry import ScaledBand, refuse_pictures, sample, scale_bands
from mmearth.raster.source import BandSource, list_bands
from mmearth.raster.stack import NATIVE_FACTOR, RasterStack, target_grid
from mmearth.sensors import Sensor, load_sensor
from mmearth.settings import Settings

# Before the first run on a machine nothing is measured: a cautious guess of a core's speed.
GUESSED_FLOPS_PER_CORE = 15e9
START_SECONDS = 4.0
TILE_BYTES_PER_PIXEL = 2500  # of a single tile, whatever the budget; measured for a small U-Net
LARGEST_TILE = 2048  # pixels a side
WORKER_BYTES = 600 * 2**20  # torch and its libraries, loaded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A request that is ready to run."""

    kind: str
    card: ModelCard
    bands: list[ScaledBand]
    masks: list[Mask]
    grid: Grid
    layout: Layout
    warnings: list[Problem]

    def stack(self) -> RasterStack:
        """Return the bands on the grid, less what the masks leave out; to be opened by its user."""
        return RasterStack(self.bands, self.grid, self.masks)


def prepare(spec: MappingSpec, settings: Settings) -> Prepared:
    """Make a request ready to run.

    Raises:
        MMEarthError: the first thing that stands in its way.
    """
    plan = Plan()
    return _prepare(spec, settings, plan)


def plan(spec: MappingSpec, settings: Settings) -> Plan:
    """Say what a request would do. What stands in its way is collected, not raised."""
    result = Plan()
    try:
        ready = _prepare(spec, settings, result)
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
        return result
    result.grid = ready.grid.info()
    result.tiles = ready.layout.count
    result.warnings = ready.warnings
    result.seconds, result.seconds_measured = _estimate_seconds(ready, settings)
    result.memory_bytes = _estimate_memory(ready, settings)
    return result


def _prepare(spec: MappingSpec, settings: Settings, plan: Plan) -> Prepared:
    """Prepare, filling in ``plan`` what is known even if a later step fails."""
    card = find_model(spec.model, settings.model_folders)
    if isinstance(spec, SegmentSpec):  # refused before anything is read
        density.check_product(spec, card.product(spec.product))
    sensor = load_sensor(card.sensor)
    sources = list_bands(spec.inputs)
    plan.sources = [source.reference() for source in sources]
    plan.bands = match_bands(sources, card.bands, sensor, choices=spec.bands)
    refuse_pictures(sources, sensor, spec.radiometry)
    try:
        require_all(plan.bands)
    except BandMatchError as error:
        if any(match.state is MatchState.missing for match in plan.bands):
            raise with_smaller_model(error, card, sensor, sources, spec.bands, settings) from None
        raise
    chosen = [_source(sources, match) for match in plan.bands]
    bands, warnings = scale_bands(chosen, sensor, spec.radiometry)
    grid = target_grid(chosen, card.resolution_m, spec.extent)
    masks, found = find_masks(spec.masks, sources, search=spec.scene_classification == "use")
    warnings += found + check_overlap(masks, grid)
    warnings += _unlike_training(card, sensor, bands, masks, warnings)
    if isinstance(spec, SegmentSpec):
        warnings += density.check_cells(spec, grid)
    tile = card.tile_size if spec.tile_size is None else spec.tile_size
    if card.is_onnx and tile != card.tile_size:
        raise InputError(
            f"A tile of {tile} pixels does not suit this model.",
            f"It reads tiles of {card.tile_size} pixels only: leave the size empty.",
        )
    smallest = 2 * card.stride  # two tiles of one stride that overlap would be the same tile
    if tile % card.stride or not smallest <= tile <= LARGEST_TILE:
        raise InputError(
            f"A tile of {tile} pixels does not suit this model.",
            f"Choose a multiple of {card.stride} from {smallest} to {LARGEST_TILE}, "
            "or leave it empty.",
        )
    layout = Layout.of(grid.height, grid.width, tile, least=card.overlap, stride=card.stride)
    warnings += shared_bands(plan.bands) + distant_bands(plan.bands)
    # Bands of common names at another pixel size may be of a sensor that lacks what a model lacks.
    other_size = _resolution_warning(chosen, card, sensor, plan.bands)
    if not (other_size and _all_of_common_names(plan.bands)):
        warnings += larger_model(card, sensor, sources, settings)
    warnings += other_size
    return Prepared(spec.kind, card, bands, masks, grid, layout, warnings)


def _source(sources: list[BandSource], match: BandMatch) -> BandSource:
    wanted: SourceBand | None = match.source
    for source in sources:
        if wanted and (source.input, source.index) == (wanted.input, wanted.index):
            return source
    raise ModelError(f"Band {match.band} has no source.")  # require_all has made sure of it


def _unlike_training(
    card: ModelCard,
    sensor: Sensor,
    bands: list[ScaledBand],
    masks: list[Mask],
    known: list[Problem],
) -> list[Problem]:
    """Warn if what is to be mapped is unlike what the model was trained on, as far as known."""
    if card.inputs is None or any(problem.code == "offset" for problem in known):
        return []
    pixels = sample(bands, masks)
    if not all(values.size for values in pixels):  # whether there is any data shows in the map
        return []
    problem = unlike(card.inputs, summary(pixels), card.bands, sensor)
    return [problem] if problem else []


def _resolution_warning(
    sources: list[BandSource], card: ModelCard, sensor: Sensor, matches: list[BandMatch]
) -> list[Problem]:
    finest = min(source.grid.pixel_m for source in sources)
    factor = finest / card.resolution_m
    if 1 / NATIVE_FACTOR < factor < NATIVE_FACTOR:
        return []
    consequence = (
        "they are averaged" if factor < 1 else "they are interpolated, and small features are lost"
    )
    problem = Problem(
        code="resolution",
        message=f"The pixels measure {finest:.3g} m on the ground, but this model was trained "
        f"at {card.resolution_m:g} m; {consequence}.",
        advice="Prefer a model made for this resolution.",
    )
    if _all_of_common_names(matches):
        message = (
            f"{problem.message} Nothing in the rasters says that they are of {sensor.title}, for "
            "which the model was made: their bands have names that many sensors share."
        )
        problem = problem.model_copy(update={"message": message})
    return [problem]


def _all_of_common_names(matches: list[BandMatch]) -> bool:
    return all(match.reason == "common name" for match in matches)


def _speed_file(settings: Settings) -> Path:
    return settings.home / "speed.json"


def _speed_key(ready: Prepared, settings: Settings) -> str:
    card, tile = ready.card, ready.layout.rows.tile
    model = f"{ready.kind} {card.id} {card.version}"
    return f"{model} {tile} {settings.device} {settings.cpu_threads}"


def remember_speed(ready: Prepared, tiles: int, seconds: float, settings: Settings) -> None:
    """Keep how long a tile took, for the next estimate on this machine.

    An estimate is a courtesy: if it cannot be kept, the job has succeeded all the same.
    """
    path = _speed_file(settings)
    speeds = _read_speeds(path)
    speeds[_speed_key(ready, settings)] = seconds / tiles
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_text(json.dumps(speeds, indent=1), "utf-8")
        temporary.replace(path)
    except OSError as error:
        log.warning("The speed is not kept: %s", error)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _read_speeds(path: Path) -> dict[str, float]:
    """Return seconds a tile; whatever in the file is none is left out."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {
        key: float(value)
        for key, value in entries
        if isinstance(value, (int, float)) and 0 < value < math.inf
    }


def _estimate_seconds(ready: Prepared, settings: Settings) -> tuple[float, bool]:
    """Return seconds, and whether they rest on a measurement on this machine."""
    tile = ready.layout.rows.tile
    measured = _read_speeds(_speed_file(settings)).get(_speed_key(ready, settings))
    if measured:
        return START_SECONDS + ready.layout.count * measured, True
    flops = 2 * ready.card.network.multiply_adds_per_pixel * tile**2
    per_tile = flops / (GUESSED_FLOPS_PER_CORE * settings.cpu_threads)
    return START_SECONDS + ready.layout.count * per_tile, False


def _estimate_memory(ready: Prepared, settings: Settings) -> int:
    """Return bytes: the libraries, three bands of rows, and the tiles under way."""
    tile, width = ready.layout.rows.tile, ready.grid.width
    strips = 4 * tile * width * (2 * len(ready.card.bands) + 2 * ready.card.class_count)
    budget = processor_budget(settings)
    return WORKER_BYTES + strips + max(budget, TILE_BYTES_PER_PIXEL * tile**2)
