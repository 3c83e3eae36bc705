"""Layout of MMEarth's files: a dataset of an h5 file for each modality, and three JSON files.

As MMEarth-data writes it (github.com/vishalned/MMEarth-data, 32fe297, utils/convert_to_h5.py,
utils/splits.py, utils/normalization.py) and MMEarth-train reads it (1f368b3, MODALITIES.py,
mmearth_dataset.py): for N tiles of H x W pixels,

    sentinel2                uint16  (N, 13, H, W)   0 is no data, in each band for itself
    sentinel1                float32 (N, 8, H, W)    decibels, -inf is no data
    aster                    int16   (N, 2, H, W)
    canopy_height_eth        int8    (N, 2, H, W)
    dynamic_world            uint8   (N, 1, H, W)    codes 1 to 9
    esa_worldcover           uint8   (N, 1, H, W)    codes 10 to 100
    era5, lat, lon, month    float32 (N, 12 or 2)
    biome, eco_region                (N, 14 or 846)  a 1 where it is
    metadata                 tile_id and S2_type

``NAME_splits.json`` has the numbers of the tiles of each part, ``NAME_band_stats.json`` mean and
std of each modality, for Sentinel-2 by processing level, ``NAME_tile_info.json`` all else by
``tile_id``. Files that ``mmearth pair`` makes hold further datasets, which say of themselves what
they are: attributes ``kind``, ``codes`` and ``nodata``, of images also ``bands`` and ``scale``.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from mmearth.errors import InputError, RasterReadError
from mmearth.pretraining.modality import UNKNOWN

METADATA = "metadata"
PLACE = "place"  # (N,), made by ``mmearth pair``: tiles of the same number show the same ground
# B8A stands before B08 here, and nowhere else.
SENTINEL2 = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B08", "B09", "B10", "B11", "B12",
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """What the numbers of a dataset mean.

    Attributes:
        kind: "one-hot" has a channel for each class.
        codes: of classes, in order.
        nodata: numbers that stand for no data.
    """

    kind: Literal["continuous", "categorical", "one-hot"]
    codes: tuple[int, ...] = ()
    nodata: tuple[float, ...] = ()


# -inf cannot be stored in 16 bits, nor 255 in 8 bits with a sign: HDF5 stores the number nearest to
# it, and what copies with NumPy the one that has the same bits.
LAYERS = {
    "sentinel1": Layer("continuous", nodata=(-np.inf,)),
    "aster": Layer("continuous", nodata=(-np.inf, -32768)),
    "canopy_height_eth": Layer("continuous", nodata=(255, 127, -1)),
    "era5": Layer("continuous", nodata=(-np.inf, np.inf)),
    "dynamic_world": Layer("categorical", tuple(range(1, 10)), (0,)),
    "esa_worldcover": Layer("categorical", (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100), (0, 255)),
    "lat": Layer("continuous", nodata=(-np.inf,)),
    "lon": Layer("continuous", nodata=(-np.inf,)),
    "month": Layer("continuous", nodata=(-np.inf,)),
    "biome": Layer("one-hot", nodata=(255,)),
    "eco_region": Layer("one-hot", nodata=(65535,)),
}


class Store:
    """An h5 file for reading, by several threads and processes; each process opens its own.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._opened: tuple[int, h5py.File] | None = None

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        self.__init__(path)  # type: ignore[misc]

    @property
    def file(self) -> h5py.File:
        """The open file.

        Raises:
            RasterReadError: if it cannot be opened.
        """
        with self._lock:
            # What a process took over from the one that it was forked from must not be read.
            if self._opened is None or self._opened[0] != os.getpid():
                try:
                    # Many file systems of clusters know no locks.
                    self._opened = os.getpid(), h5py.File(self.path, "r", locking=False)
                except OSError as error:
                    raise RasterReadError(
                        f"{self.path} cannot be opened as an HDF5 file.", f"HDF5 says: {error}"
                    ) from error
            return self._opened[1]

    def read(self, name: str, place: Any) -> NDArray[Any]:
        """Read a part of a dataset.

        Raises:
            RasterReadError: if the file is damaged.
        """
        try:
            values: NDArray[Any] = np.asarray(self.file[name][place])
        except (OSError, KeyError, ValueError) as error:
            raise RasterReadError(
                f"{self.path} is damaged: {name} cannot be read.", f"HDF5 says: {error}"
            ) from error
        return values


def layer_of(name: str, dataset: h5py.Dataset) -> Layer | None:
    """Return what a dataset says of itself, else what MMEarth says; None if nobody does."""
    if "kind" not in dataset.attrs:
        return LAYERS.get(name)
    return Layer(
        dataset.attrs["kind"],
        tuple(int(code) for code in dataset.attrs.get("codes", ())),
        tuple(float(value) for value in dataset.attrs.get("nodata", ())),
    )


def measured(
    stored: NDArray[Any], nodata: Sequence[float], mean: NDArray[Any], std: NDArray[Any]
) -> NDArray[np.float32]:
    """Standardise numbers, (C, ...); float32, NaN where there is no data.

    A channel whose mean is not known, or that has no spread, is never known.
    """
    values = stored.astype(np.float64)
    for nothing in nodata:
        values[stored == nothing] = np.nan
    values[~np.isfinite(values)] = np.nan
    each = (-1,) + (1,) * (stored.ndim - 1)
    spread = np.where(std > 0, std, np.nan).reshape(each)
    return ((values - mean.reshape(each)) / spread).astype(np.float32)


def classes(stored: NDArray[Any], codes: Sequence[int]) -> NDArray[np.int64]:
    """Return class numbers from 0 of codes of any shape, in one step; UNKNOWN of any other number.

    MMEarth-train looks for no data again among the class numbers, where 0 is the first class: tree
    cover is lost so.
    """
    order = np.argsort(codes)
    ascending = np.asarray(codes)[order]
    place = np.searchsorted(ascending, stored).clip(0, len(codes) - 1)
    return np.where(ascending[place] == stored, order[place], UNKNOWN).astype(np.int64)


def read_json(path: Path) -> Any:
    """Read one of the files beside the h5 file.

    Raises:
        InputError: if it is missing or damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"There is no {path}, which belongs to the h5 file.", "Copy or download it too."
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path} cannot be read: {error}.", "Copy or download it again."
        ) from error
