"""Scenes to be cut into patches: files, dates and grids, and where they show a whole patch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from mmearth.api import MaskInput, RasterInput
from mmearth.errors import InputError, RasterReadError
from mmearth.files import explained, staged
from mmearth.raster.grid import Grid
from mmearth.raster.mask import Mask, MaskReader, find_masks
from mmearth.raster.source import list_bands, open_raster, read_mask, stated_crs

_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)")
_TAG_DATE = re.compile(r"(\d{4}):(\d\d):(\d\d)")


@dataclass(frozen=True)
class Scene:
    """A file that is cut into patches.

    Attributes:
        path: of the image.
        name: of its patches' files, without ending.
        date: YYYY-MM-DD; empty if nothing says it.
        grid: of its pixels.
        bands: what the file calls them.
        dtype: numpy name of the stored type.
        mask: file of the cloud mask; empty for what is found in the image.
        series: number of the grid that it shares with others.
        col: column of its upper left pixel on that grid, whose (0, 0) is the first scene's.
        row: likewise.
    """

    path: Path
    name: str
    date: str
    grid: Grid
    bands: tuple[str, ...]
    dtype: str
    mask: str = ""
    series: int = 0
    col: int = 0
    row: int = 0

    def bytes_of(self, size: int) -> int:
        """Return how many bytes a patch takes at most."""
        return size**2 * len(self.bands) * np.dtype(self.dtype).itemsize


def find_scenes(folder: Path, images: str, masks: str) -> list[Scene]:
    """List the scenes of a folder and of folders in it, by date.

    Args:
        folder: to look in.
        images: pattern of the names of their files, with one ``*``.
        masks: pattern of the names of their cloud masks; empty for none.

    Raises:
        InputError: if there are none, a mask is missing, or they are not of one kind.
        RasterReadError: if one cannot be opened.
        MissingCrsError: if one has no place on the map.
    """
    for pattern in filter(None, (images, masks)):
        if pattern.count("*") != 1 or "/" in pattern or "\\" in pattern:
            raise InputError(
                f"Expected a name with one '*', found {pattern!r}.", "Write '*.tif', for example."
            )
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder.", "Choose the folder of the scenes.")
    left_out = set(folder.rglob(masks)) if masks else set()
    paths = [path for path in sorted(folder.rglob(images)) if path not in left_out]
    if not paths:
        raise InputError(
            f"No file in {folder} has a name like {images}.",
            "Choose another folder, or say what the scenes are called.",
        )
    scenes = [_scene(path, folder, _mask_of(path, images, masks)) for path in paths]
    for scene in scenes:
        if (scene.bands, scene.dtype) != (scenes[0].bands, scenes[0].dtype):
            raise InputError(
                f"{scene.path} has {len(scene.bands)} bands of {scene.dtype}, "
                f"{scenes[0].path} has {len(scenes[0].bands)} of {scenes[0].dtype}, or they are "
                "called otherwise.",
                "Put scenes of one kind in a folder, or say what they are called.",
            )
    return _on_shared_grids(sorted(scenes, key=lambda scene: (scene.date, scene.name)))


def positions(
    scene: Scene, size: int, step: int, nodata: float, clouds: float
) -> NDArray[np.int64]:
    """Return where a patch lies within a scene and holds enough of what can be seen.

    Args:
        scene: to look at.
        size: side of a patch in pixels.
        step: of the lattice of positions; divides ``size``.
        nodata: largest share of a patch in which a band has no data.
        clouds: largest share of it that the mask leaves out.

    Returns:
        (n, 2) column and row on the shared grid.

    Raises:
        RasterReadError: if the file or its mask is damaged.
    """
    first_col, first_row = scene.col // step, scene.row // step
    shape = (
        -(-(scene.row + scene.grid.height) // step) - first_row,
        -(-(scene.col + scene.grid.width) // step) - first_col,
    )
    # Pixels of each cell of the lattice.
    known, clouded = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    cols = _edges(scene.col, scene.grid.width, step)
    with open_raster(str(scene.path)) as dataset, MaskReader(_masks(scene), scene.grid) as masks:
        # Whole blocks of the file, so that each is unpacked once.
        together = max(1, dataset.block_shapes[0][0] // step)
        for cell in range(0, shape[0], together):
            part = slice(cell, cell + together)
            start = max(0, (first_row + cell) * step - scene.row)
            stop = min(scene.grid.height, (first_row + cell + together) * step - scene.row)
            rows = _edges(scene.row + start, stop - start, step)
            data = _data(dataset, start, stop)
            known[part] = _by_cell(data, rows, cols)
            clouded[part] = _by_cell(masks.clouded(start, stop) & data, rows, cols)
    pixels, cells = size**2, size // step
    if min(shape) < cells:
        return np.empty((0, 2), np.int64)
    whole = _sums(known, cells) >= (1 - nodata) * pixels
    row, col = np.nonzero(whole & (_sums(clouded, cells) <= clouds * pixels))
    found = np.stack([col + first_col, row + first_row], axis=1) * step
    first = np.array([scene.col, scene.row])
    last = first + np.array([scene.grid.width, scene.grid.height]) - size
    return found[((found >= first) & (found <= last)).all(axis=1)]


def place_name(scene: Scene, col: int, row: int) -> str:
    """Return the name of a place: its system's code and where its upper left corner lies."""
    grid = patch_grid(scene, col, row, 1)
    x, y = grid.bounds.left, grid.bounds.top
    authority = scene.grid.crs.to_authority()
    system = authority[1] if authority else f"series{scene.series}"
    return f"{system}_{x:.10g}_{y:.10g}"


def patch_grid(scene: Scene, col: int, row: int, size: int) -> Grid:
    """Return the pixels of a patch at a position on the shared grid."""
    shift = Affine.translation(col - scene.col, row - scene.row)
    return Grid(scene.grid.crs, scene.grid.transform @ shift, size, size)


def write_patches(scene: Scene, size: int, files: Sequence[tuple[int, int, Path]]) -> None:
    """Cut patches out of a scene, stored numbers as they are; files that exist are left.

    Args:
        scene: to cut from.
        size: side of a patch in pixels.
        files: column and row on the shared grid, and the file to write.

    Raises:
        RasterReadError: if the scene is damaged.
        OutputError: if a file cannot be written.
    """
    missing = [item for item in files if not item[2].exists()]
    if not missing:
        return
    with open_raster(str(scene.path)) as dataset:
        for col, row, path in missing:
            _write_patch(dataset, Window(col - scene.col, row - scene.row, size, size), path)


def _write_patch(dataset: DatasetReader, window: Window, path: Path) -> None:
    try:
        values = dataset.read(window=window)
    except RasterioError as error:
        raise _damaged(dataset, error) from error
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged(path) as temporary, rasterio.open(
            temporary, "w", driver="GTiff", dtype=dataset.dtypes[0], count=dataset.count,
            width=window.width, height=window.height, crs=dataset.crs, nodata=dataset.nodata,
            transform=dataset.transform @ Affine.translation(window.col_off, window.row_off),
            compress="deflate", interleave="band",
        ) as patch:  # fmt: skip
            patch.write(values)
            patch.descriptions = dataset.descriptions
            patch.scales, patch.offsets, patch.units = (
                dataset.scales,
                dataset.offsets,
                dataset.units,
            )
            patch.update_tags(**dataset.tags())
            for band in dataset.indexes:
                patch.update_tags(band, **dataset.tags(band))


def _data(dataset: DatasetReader, start: int, stop: int) -> NDArray[np.bool_]:
    """Return where all bands have data, in whole rows: (n, width) bool.

    What is 0 in all bands is no data too where the file does not say what is.
    """
    window = Window(0, start, dataset.width, stop - start)
    stated = dataset.nodata is not None
    data = np.ones((stop - start, dataset.width), bool)
    empty = np.ones_like(data)
    try:
        for band in dataset.indexes:
            values = dataset.read(band, window=window)
            data &= read_mask(dataset, band, window=window) & np.isfinite(values)
            empty &= values == 0
    except RasterioError as error:
        raise _damaged(dataset, error) from error
    return data if stated else data & ~empty


def _damaged(dataset: DatasetReader, error: RasterioError) -> RasterReadError:
    return RasterReadError(
        f"{dataset.name} is damaged: its pixels cannot be read.",
        f"Copy or download the file again, or take it away. GDAL says: {error}",
    )


def _edges(first: int, length: int, step: int) -> NDArray[np.int64]:
    """Return where cells of the lattice begin among so many pixels; ``first`` is the first's."""
    return np.r_[0, np.arange(step - first % step, length, step)]


def _by_cell(
    pixels: NDArray[np.bool_], rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count pixels in each cell: (h, w) bool to (len(rows), len(cols))."""
    counts: NDArray[np.int64] = np.add.reduceat(
        np.add.reduceat(pixels.astype(np.int64), rows, axis=0), cols, axis=1
    )
    return counts


def _sums(cells: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Return the sum of each square of ``side`` x ``side`` cells."""
    total = np.pad(cells.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    inner: NDArray[np.int64] = (
        total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    )
    return inner


def _masks(scene: Scene) -> list[Mask]:
    named = [MaskInput(path=scene.mask)] if scene.mask else []
    sources = [] if named else list_bands([RasterInput(path=str(scene.path))])
    return find_masks(named, sources, search=True)[0]


def _scene(path: Path, folder: Path, mask: str) -> Scene:
    relative = path.relative_to(folder).with_suffix("")
    with open_raster(str(path)) as dataset:
        grid = Grid.of_dataset(dataset, stated_crs(dataset, str(path)))
        if grid.transform != dataset.transform:
            raise InputError(
                f"The pixels of {path} do not run from north to south and from west to east.",
                "Warp it (Raster > Projections > Warp), or take it away.",
            )
        return Scene(
            path,
            "_".join(relative.parts),
            _date(relative, dataset.tags().get("TIFFTAG_DATETIME", "")),
            grid,
            tuple(name or "" for name in dataset.descriptions),
            dataset.dtypes[0],
            mask,
        )


def _date(relative: Path, tag: str) -> str:
    """Return the first date that a name states, the file's before its folders', else the tag's."""
    matches = (_DATE.search(part) for part in reversed(relative.parts))
    match = next(filter(None, matches), None) or _TAG_DATE.match(tag)
    return "-".join(match.groups()) if match else ""


def _mask_of(path: Path, images: str, masks: str) -> str:
    if not masks:
        return ""
    begin, end = images.split("*")
    mask = path.with_name(masks.replace("*", path.name[len(begin) : len(path.name) - len(end)]))
    if not mask.exists():
        raise InputError(
            f"{path} has no mask {mask.name} beside it.",
            "Put it there, take the scene away, or name no masks.",
        )
    return str(mask)


def _on_shared_grids(scenes: Sequence[Scene]) -> list[Scene]:
    """Number the grids, and say where on its grid each scene lies."""
    origins: list[Grid] = []
    result = []
    for scene in scenes:
        placed = [grid for grid in origins if scene.grid.offset_of(grid) is not None]
        if not placed:  # its corner is on the lattice: frames like the first lose no rim
            placed = [scene.grid]
            origins += placed
        row, col = scene.grid.offset_of(placed[0]) or (0, 0)
        result.append(replace(scene, series=origins.index(placed[0]), col=col, row=row))
    return result
