"""What jobs share that make rasters of rasters: where results go, how they came to be, progress."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmearth import __version__
from mmearth.api import MappingSpec, Schema
from mmearth.errors import InputError
from mmearth.inference.tiles import Layout
from mmearth.jobs.context import JobContext
from mmearth.jobs.prepare import Prepared
from mmearth.raster import write
from mmearth.raster.source import open_raster

RASTER_ENDINGS = (".tif", ".tiff")


def targets(
    outputs: Schema, endings: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, Path]:
    """Return the results asked for, by name.

    Args:
        outputs: file of each result; those that are empty are not asked for.
        endings: of the names of results that are no rasters.

    Raises:
        InputError: if there is none, or a name will not do.
    """
    named = {name: Path(path) for name, path in outputs.model_dump().items() if path}
    if not named:
        raise InputError("No result is asked for.", "Name at least one file to write.")
    relative = [path for path in named.values() if not path.is_absolute()]
    if relative:
        raise InputError(f"{relative[0]} is no full path.", "Give the whole path of each result.")
    if len(set(named.values())) < len(named):
        raise InputError("Two results have the same file name.", "Give each a name of its own.")
    for name, path in named.items():
        suffixes = (endings or {}).get(name, RASTER_ENDINGS)
        if path.suffix.lower() not in suffixes:
            expected = " or ".join(suffixes)
            raise InputError(
                f"Expected a name that ends with {expected}, found {path}.",
                "Choose another name for this result.",
            )
    return named


def keep_inputs(targets: Mapping[str, Path], inputs: Iterable[Path]) -> None:
    """Refuse to write a result over what it is made from.

    Raises:
        InputError: if one would be.
    """
    read = {path.resolve() for path in inputs}
    for path in targets.values():
        if path.resolve() in read:
            raise InputError(f"{path} is one of the input rasters.", "Choose another name.")


def provenance(spec: MappingSpec, ready: Prepared) -> dict[str, str]:
    """Return tags that say how a result came to be."""
    return {
        "MMEARTH_VERSION": __version__,
        "MMEARTH_MODEL": ready.card.id,
        "MMEARTH_MODEL_VERSION": ready.card.version,
        "MMEARTH_MODEL_SHA256": ready.card.sha256,
        "MMEARTH_TILE": f"{ready.layout.rows.tile} pixels, {ready.layout.rows.overlap} overlap",
        "MMEARTH_INPUTS": json.dumps([item.path for item in spec.inputs], ensure_ascii=False),
        "MMEARTH_BANDS": json.dumps(
            {
                name: f"{band.source.title}, x {band.scale:g} {band.offset:+g}"
                for name, band in zip(ready.card.bands, ready.bands, strict=True)
            },
            ensure_ascii=False,
        ),
        **({"MMEARTH_MASKS": masks_in_words(ready)} if ready.masks else {}),
        "MMEARTH_ATTRIBUTION": ready.card.attribution,
    }


def masks_in_words(ready: Prepared) -> str:
    """Say which masks leave out what."""
    return "; ".join(f"{mask.title}: {mask.rule}" for mask in ready.masks)


def fingerprint(ready: Prepared, *more: object) -> str:
    """Return a name for everything that decides the pixels of a result.

    Args:
        ready: the request.
        more: what else decides them, as JSON can write it.
    """
    facts = (
        __version__,
        ready.kind,
        ready.card.card_sha256,
        # repr, because JSON has no notation for a no-data value of NaN.
        [
            repr((b.source.dataset, b.source.band, b.scale, b.offset))
            + repr((b.nodata, b.all_zero_nodata, b.source.masked))
            for b in ready.bands
        ],
        [repr(mask) for mask in ready.masks],
        ready.grid.info().model_dump(mode="json"),
        ready.layout.rows.tile,
        more,
        stamps(files_read(ready)),
    )
    return digest(*facts)


def digest(*facts: object) -> str:
    """Return a short name for facts that JSON can write."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def files_read(ready: Prepared) -> list[Path]:
    """Return all files that pixels come from: rasters, what a VRT refers to, masks, no-data."""
    datasets = {band.source.dataset for band in ready.bands}
    return files_of(datasets | {mask.dataset for mask in ready.masks})


def files_of(datasets: Iterable[str]) -> list[Path]:
    """Return all files that the pixels of GDAL datasets come from."""
    files = set()
    for name in datasets:
        files.add(Path(name))
        with open_raster(name) as dataset:
            files.update(Path(file) for file in dataset.files)
    beside = {Path(f"{file}{ending}") for file in files for ending in write.SIDECARS}
    return sorted(file for file in files | beside if file.exists())


def stamps(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return what tells whether files have changed: name, time of change, size."""
    facts = ((file, file.stat()) for file in files)
    return [(str(file), found.st_mtime_ns, found.st_size) for file, found in facts]


class Clock:
    """Turns tiles done into progress and seconds left.

    Attributes:
        seconds: since the first tile was begun.
    """

    def __init__(
        self,
        context: JobContext,
        layout: Layout,
        rows_done: int,
        share: float,
        *,
        begin: float = 0.0,
        what: str = "Mapping",
    ) -> None:
        """Begin.

        Args:
            context: what hears of the progress.
            layout: tiles over the scene, in pixels.
            rows_done: rows of pixels that an earlier run has finished.
            share: of the job's progress when all tiles are done.
            begin: of the job's progress before the first tile.
            what: is done, in words.
        """
        self._context = context
        self._tiles = layout.count
        self._skipped = sum(
            len(layout.cols.starts)
            for start in layout.rows.starts
            if start + layout.rows.tile <= rows_done
        )
        self._share = share
        self._first = begin
        self._what = what
        self._begin = context.elapsed()
        self.seconds = 0.0

    def tick(self, done: int) -> None:
        """Report that so many tiles are done, skipped ones included."""
        self.seconds = self._context.elapsed() - self._begin
        fresh = done - self._skipped
        left = self.seconds / fresh * (self._tiles - done) if fresh > 0 else None
        progress = self._first + (self._share - self._first) * done / self._tiles
        self._context.report(progress, f"{self._what}: tile {done:,} of {self._tiles:,}", left)
