"""Make data for pretraining of the user's own rasters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmearth import __version__
from mmearth.api import PairOutputs, PairResult, PairSpec, Plan, Problem
from mmearth.errors import EmptyAreaError, InputError, MMEarthError, counted, listed
from mmearth.files import check_space, explained
from mmearth.jobs import mapping
from mmearth.jobs.context import JobContext
from mmearth.jobs.work import Work
from mmearth.pretraining.datasets.blocks import said_of_parts
from mmearth.pretraining.datasets.mmearth_layout import METADATA, PLACE
from mmearth.pretraining.pairing.archive import Archive
from mmearth.pretraining.pairing.images import Images, prepare_images
from mmearth.pretraining.pairing.partners import Partner, prepare_partner
from mmearth.pretraining.pairing.places import (
    Place,
    all_places,
    block_of,
    classes_of,
    draw_places,
)
from mmearth.pretraining.pairing.strips import Cutter, Strip, layout_of, make_strips, tile_bytes
from mmearth.raster import write
from mmearth.sensors import load_sensor
from mmearth.settings import Settings

CUT_SHARE, WRITTEN_SHARE = 0.85, 0.99  # of the progress bar
OWN = {METADATA, PLACE, "lat", "lon", "month"}  # datasets that mean something else


@dataclass(frozen=True)
class _Prepared:
    images: Images
    partners: list[Partner]
    places: dict[Place, list[int]]
    bytes_each: int

    def most_tiles(self, spec: PairSpec) -> int:
        """Return how many tiles there can be."""
        each = sorted((len(images) for images in self.places.values()), reverse=True)
        return sum(each[: spec.count])


def plan(spec: PairSpec, _settings: Settings) -> Plan:
    """Say what stands in the way, and how many tiles there can be. Pixels are sampled only."""
    result = Plan()
    try:
        folder = _folder(spec)
        ready = _prepare(spec)
        write.check_writable(list(_targets(folder).values()) if folder.is_dir() else [folder], 0)
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
        return result
    result.grid = ready.images.ready[0].grid.info()
    result.tiles = ready.most_tiles(spec)
    result.warnings = ready.images.warnings
    return result


def run(spec: PairSpec, context: JobContext) -> PairResult:
    """Cut the tiles, pair them, and write them as one data set.

    A run that was cancelled or killed goes on where it stopped when the same request comes again.

    Raises:
        MMEarthError: whatever stands in the way; no result is then left half-written.
    """
    context.report(0.0, "Looking at the rasters", None)
    context.check_cancelled()
    folder = _folder(spec)
    ready = _prepare(spec)
    files = mapping.files_of(_datasets(spec, ready))
    targets = _targets(folder)
    mapping.keep_inputs(targets, files)
    sensor = load_sensor(spec.sensor)
    chosen = _draw(spec, ready, context.check_cancelled)
    in_memory = 2 * 4 * len(ready.images.bands) * spec.size**2  # as it is read, and as it is cut
    strips = make_strips(ready.places, chosen, in_memory)
    needed = ready.bytes_each * sum(len(strip.places) for strip in strips)
    write.check_writable(list(targets.values()) if folder.is_dir() else [folder], needed)
    facts = spec.model_dump(mode="json", exclude={"outputs"})
    name = mapping.digest(__version__, facts, mapping.stamps(files))
    with Work(context.settings.work_folder / f"pair-{name}", targets) as work:
        check_space(work.folder, needed)
        cutter = Cutter(spec, ready.images, ready.partners, sensor)
        begin, fresh = context.elapsed(), 0
        for number, strip in enumerate(strips):
            context.check_cancelled()
            if not (work.folder / strip.name).exists():
                cutter.cut(strip, work.folder / strip.name)
                fresh += 1
            left = len(strips) - number - 1
            seconds = (context.elapsed() - begin) / fresh * left if fresh else None
            text = f"Cutting tiles: strip {number + 1:,} of {len(strips):,}"
            context.report(CUT_SHARE * (number + 1) / len(strips), text, seconds)
        archive = Archive(spec, ready.images, ready.partners, sensor, strips, work.folder)

        def watch(share: float) -> None:
            context.check_cancelled()
            progress = CUT_SHARE + (WRITTEN_SHARE - CUT_SHARE) * share
            context.report(progress, f"Writing {targets['h5'].name}", None)

        with explained(folder):
            folder.mkdir(exist_ok=True)
        archive.write(work.staging.path("h5"), watch)
        archive.write_beside(
            work.staging.path("splits"), work.staging.path("stats"), work.staging.path("info")
        )
        context.check_cancelled()
        work.staging.publish()
        work.remove()
    return PairResult(
        outputs=PairOutputs(folder=str(folder)),
        tiles=len(archive.tiles),
        places=len(archive.places),
        parts={part: len(held) for part, held in archive.splits.items()},
        known=archive.known,
        warnings=[*ready.images.warnings, *_said(spec, archive, strips)],
        seconds=context.elapsed(),
    )


def _folder(spec: PairSpec) -> Path:
    """Return the folder of the data set.

    Raises:
        InputError: if it is no full path.
        OutputError: if it cannot be made.
    """
    folder = Path(spec.outputs.folder)
    if not folder.is_absolute():
        raise InputError(f"{folder} is no full path.", "Give the whole path of the folder.")
    if not folder.is_dir():
        write.check_writable([folder], 0)
        if folder.exists():
            raise InputError(f"{folder} is a file.", "Choose another name for the folder.")
    return folder


def _targets(folder: Path) -> dict[str, Path]:
    name = folder.name
    return {
        "h5": folder / f"{name}.h5",
        "splits": folder / f"{name}_splits.json",
        "stats": folder / f"{name}_band_stats.json",
        "info": folder / f"{name}_tile_info.json",
    }


def _prepare(spec: PairSpec) -> _Prepared:
    """Make a request ready to run.

    Raises:
        MMEarthError: the first thing that stands in its way.
    """
    sensor = load_sensor(spec.sensor)
    images = prepare_images(spec)
    names = [modality.name for modality in spec.modalities]
    taken = [name for name in names if name in {*OWN, layout_of(sensor, ()).name}]
    twice = [name for name in names if names.count(name) > 1]
    if taken or twice:
        raise InputError(
            f"The name {listed([*taken, *twice])} of a modality is used already.",
            "Choose another name.",
        )
    partners = [prepare_partner(modality) for modality in spec.modalities]
    places = all_places(images, spec.size)
    held = {number for covering in places.values() for number in covering}
    lacking, count = len(images.ready) - len(held), len(images.ready)
    if lacking:
        images.warnings.append(
            Problem(
                code="no_tile",
                message=f"{lacking:,} of {counted(count, 'image')} "
                f"hold no whole tile of {spec.size} pixels of the lattice that they share with "
                "images of the same ground, and are left out.",
                advice="Choose smaller tiles.",
            )
        )
    ready = _Prepared(images, partners, places, tile_bytes(spec, images, partners, sensor))
    for partner in partners:
        if not any(partner.touches(image.grid) for image in images.ready):
            raise EmptyAreaError(
                f"No raster of {partner.name} overlaps an image.",
                "Choose rasters of the same ground, or leave that modality out.",
            )
    return ready


def _datasets(spec: PairSpec, ready: _Prepared) -> set[str]:
    images = ready.images.ready
    read = {band.source.dataset for image in images for band in image.bands}
    read |= {mask.dataset for image in images for mask in image.masks}
    read |= {raster.path for modality in spec.modalities for raster in modality.rasters}
    return read | ({spec.strata} if spec.strata else set())


def _draw(spec: PairSpec, ready: _Prepared, check_cancelled: Callable[[], None]) -> list[Place]:
    """Draw places, evenly over classes or blocks.

    Raises:
        EmptyAreaError: if the map of classes has data at none.
    """
    places = list(ready.places)
    if spec.strata:
        classes = classes_of(spec.strata, ready.images, places, spec.size, check_cancelled)
        drawn = draw_places(places, classes, spec.count, spec.seed)
    else:
        blocks = [block_of(ready.images, place, spec) for place in places]
        drawn = draw_places(places, blocks, spec.count, spec.seed)
    if not drawn:
        raise EmptyAreaError(
            f"{spec.strata} has no data where the images are.",
            "Choose a map of the same ground, or none.",
        )
    return drawn


def _said(spec: PairSpec, archive: Archive, strips: list[Strip]) -> list[Problem]:
    """Return what the user should know of the tiles."""
    found = []
    cut = sum(len(strip.places) for strip in strips)
    if cut > len(archive.tiles):
        found.append(
            Problem(
                code="empty_tiles",
                message=f"{counted(cut - len(archive.tiles), 'tile')} of {cut:,} have data in less "
                f"than {spec.minimum_valid:.0%} of their pixels, and are left out.",
            )
        )
    dark, bright = archive.clipped.tolist()
    if dark or bright:
        found.append(
            Problem(
                code="clipped",
                message=f"{counted(dark, 'number')} below and {bright:,} above what the file can "
                "hold were stored as the smallest and the largest that it can.",
                advice="Check scale and offset of the images if these are many.",
            )
        )
    empty = [name for name, share in archive.known.items() if not share]
    if empty:
        found.append(
            Problem(
                code="no_data",
                message=f"No tile has data of {listed(empty)}.",
                advice="Check the rasters and the value that stands for no data.",
            )
        )
    return found + said_of_parts(archive.splits, archive.shares, spec.block_km)
