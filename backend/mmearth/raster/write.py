"""Writing maps: streamed to a working GeoTIFF, then a Cloud-Optimised GeoTIFF under its final name.

The working file is uncompressed, so every row has its fixed place: rows that are written stay whole
if the process is killed, and a later run goes on after them. The result appears under its name only
when it is complete.
"""

from __future__ import annotations

import math
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree  # nosec B405 - only written here, never read

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.windows import Window

from mmearth.errors import OutputError
from mmearth.files import STAGING_PREFIX, check_space, explained, staged
from mmearth.raster.grid import Grid

CLASS_NODATA = 0
PERCENT_NODATA = 255
PICTURE_NODATA = 0
COVER_NODATA = 65535
CLASSES_TAG = "MMEARTH_CLASSES"  # of class maps: value, name, title and color of each, as JSON
COG_BLOCK = 512  # pixels a side, halved until a block of all bands is no larger than this:
COG_BLOCK_BYTES = 32 * 2**20
UNDO = "undo"
SIDECARS = (".aux.xml", ".ovr", ".msk")  # GDAL takes them to belong to the raster of that name

Rows = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """What a map holds, and how it should be shown.

    Attributes:
        kind: class codes, percent, cover in hundredths of a percent, numbers as they are (float32),
            or a picture (red, green, blue).
        bands: description of each band.
        tags: provenance, written into the file.
        palette: colour (r, g, b) and title of each class code; class maps only.
    """

    kind: Literal["classes", "percent", "cover", "values", "picture"]
    bands: tuple[str, ...]
    tags: Mapping[str, str]
    palette: Mapping[int, tuple[tuple[int, int, int], str]] | None = None

    @property
    def nodata(self) -> float:
        """Value of pixels without a result."""
        return {
            "classes": CLASS_NODATA,
            "percent": PERCENT_NODATA,
            "cover": COVER_NODATA,
            "values": math.nan,
            "picture": PICTURE_NODATA,
        }[self.kind]

    @property
    def dtype(self) -> str:
        """Name of the type that is stored."""
        return {"values": "float32", "cover": "uint16"}.get(self.kind, "uint8")

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in all bands."""
        return len(self.bands) * np.dtype(self.dtype).itemsize


def create_working(path: Path, grid: Grid, layer: Layer) -> None:
    """Create a working GeoTIFF, its rows not yet written.

    Raises:
        OutputError: if it cannot be written.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            dtype=layer.dtype,
            count=len(layer.bands),
            width=grid.width,
            height=grid.height,
            crs=grid.crs,
            transform=grid.transform,
            nodata=layer.nodata,
            # Of hundreds of bands, one block a row: each has an entry in the file's directory.
            interleave="pixel" if layer.kind == "values" else "band",
            blockysize=1,
            BIGTIFF="IF_SAFER",
            **({"photometric": "RGB"} if layer.kind == "picture" else {}),
        ) as dataset:
            dataset.update_tags(**layer.tags)
            for index, description in enumerate(layer.bands, start=1):
                dataset.set_band_description(index, description)
            if layer.palette:
                colours = {value: (*rgb, 255) for value, (rgb, _) in layer.palette.items()}
                dataset.write_colormap(1, {CLASS_NODATA: (0, 0, 0, 0), **colours})
            if layer.kind in ("percent", "cover"):  # the one reads as 0..1, the other as 0..100
                dataset.scales = [0.01] * len(layer.bands)
            if layer.kind == "cover":
                dataset.units = ["%"] * len(layer.bands)


def write_rows(path: Path, start: int, rows: Rows) -> None:
    """Write whole rows and close the file, so that they outlive this process.

    Args:
        path: a working GeoTIFF.
        start: first row.
        rows: (bands, n, width) of the layer's type.

    Raises:
        DiskFullError: if the disk is full.
        OutputError: if they cannot be written for another reason.
    """
    with explained(path), rasterio.open(path, "r+") as dataset:
        dataset.write(rows, window=Window(0, start, rows.shape[2], rows.shape[1]))


def publish(working: Path, target: Path, layer: Layer) -> None:
    """Make a Cloud-Optimised GeoTIFF of a working file and put it in its place.

    Category names go to ``<target>.aux.xml``, the only place GDAL keeps them for a GeoTIFF.

    Raises:
        DiskFullError: if the disk is full.
        OutputError: if it cannot be written for another reason.
    """
    with staged(target) as temporary:
        with explained(target):
            rasterio.shutil.copy(
                working,
                temporary,
                driver="COG",
                BLOCKSIZE=_block(layer),
                COMPRESS="DEFLATE",
                PREDICTOR="YES" if layer.kind == "values" else "NO",
                OVERVIEW_RESAMPLING="NEAREST" if layer.kind == "classes" else "AVERAGE",
                NUM_THREADS="ALL_CPUS",
                BIGTIFF="IF_SAFER",
            )
        if layer.palette:
            names = {value: title for value, (_, title) in layer.palette.items()}
            _write_category_names(Path(f"{temporary}.aux.xml"), names)
            os.replace(f"{temporary}.aux.xml", f"{target}.aux.xml")


def _block(layer: Layer) -> int:
    """Return the side of a block in pixels: GDAL holds blocks of all bands at once."""
    side = COG_BLOCK
    while side > 64 and side**2 * layer.pixel_bytes > COG_BLOCK_BYTES:
        side //= 2
    return side


class Staging:
    """Hidden folders beside the results, where they are built before they are moved into place.

    Beside them, because a move is done in an instant only on one disk. The name of the folders
    follows from that of the work, so whoever comes next finds what a killed run left there.

    While results are moved, ``undo`` holds the files that they take the place of, and an empty
    file ``NAME.none`` for each name that was free.
    """

    def __init__(self, targets: Mapping[str, Path], work: str) -> None:
        """Name the folders; they are made when they are needed.

        Args:
            targets: results by name.
            work: name of the work; no two that are under way at once have the same.
        """
        self._targets = dict(targets)
        self._name = f"{STAGING_PREFIX}{work}"

    def path(self, name: str) -> Path:
        """Return where to build a result.

        Raises:
            OutputError: if its folder cannot be made.
        """
        path = self._folder(self._targets[name]) / self._targets[name].name
        with explained(path):
            path.parent.mkdir(exist_ok=True)
        return path

    def publish(self) -> None:
        """Move all results into place; the files that GDAL read beside the old ones go.

        Raises:
            OutputError: if an old result cannot be replaced; all is then as it was before.
        """
        refuse_open_databases(self._targets.values())
        try:
            for file in self._files():
                folder = self._folder(file)
                with explained(file):
                    (folder / UNDO).mkdir(parents=True, exist_ok=True)
                    if file.exists():
                        os.replace(file, folder / UNDO / file.name)
                    else:
                        (folder / UNDO / f"{file.name}.none").touch()
                    if (folder / file.name).exists():
                        os.replace(folder / file.name, file)
        except BaseException:
            self.remove()
            raise
        for folder in {self._folder(file) for file in self._files()}:
            with explained(folder):
                os.replace(folder / UNDO, folder / "done")
        self.remove()

    def remove(self) -> None:
        """Remove what was built, and undo a move that did not come to its end."""
        stuck = set()
        for file in self._files():
            undo = self._folder(file) / UNDO
            try:
                if (undo / file.name).exists():
                    os.replace(undo / file.name, file)
                elif (undo / f"{file.name}.none").exists():
                    file.unlink(missing_ok=True)
            except OSError:  # another program has it open; what it replaces must not be lost
                stuck.add(undo.parent)
        for folder in {self._folder(file) for file in self._files()} - stuck:
            shutil.rmtree(folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        """Return the results, each after the files that GDAL would read beside it."""
        return [
            target.with_name(f"{target.name}{ending}")
            for target in self._targets.values()
            for ending in (*SIDECARS, "")
        ]

    def _folder(self, file: Path) -> Path:
        return file.parent / self._name


def refuse_open_databases(targets: Iterable[Path]) -> None:
    """Check that no GeoPackage is open elsewhere: it would be damaged by replacing it.

    Raises:
        OutputError: if one is.
    """
    for target in targets:
        for ending in ("-wal", "-shm"):
            beside = target.with_name(f"{target.name}{ending}")
            if beside.exists():
                raise OutputError(
                    f"{target} is open in another program: there is a file {beside.name}.",
                    "Remove its layer from all projects, or choose another name. If no program "
                    f"has it open, delete {beside.name}.",
                )


def check_writable(targets: Sequence[Path], needed_bytes: int) -> None:
    """Check places of results before hours are spent on computing them.

    Raises:
        OutputError: if a folder does not exist or cannot be written to, or if a result cannot take
            its place.
        DiskFullError: if there is too little space.
    """
    for folder in {target.parent for target in targets}:
        if not folder.is_dir():
            raise OutputError(
                f"The folder {folder} does not exist.", "Create it or choose another."
            )
        probe = folder / f".{uuid.uuid4().hex[:8]}.tmp"
        with explained(folder):
            probe.touch(exist_ok=False)
            probe.unlink()
        check_space(folder, needed_bytes)
    for target in targets:
        if target.is_dir():
            raise OutputError(f"{target} is a folder.", "Choose another name for the result.")
    refuse_open_databases(targets)


def _write_category_names(path: Path, names: Mapping[int, str]) -> None:
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    categories = ElementTree.SubElement(band, "CategoryNames")
    for value in range(max(names) + 1):
        ElementTree.SubElement(categories, "Category").text = names.get(value, "")
    with explained(path):
        ElementTree.ElementTree(root).write(path, encoding="utf-8")
