"""SSL4EO-S12: images of four seasons, of Sentinel-2 at both levels and of Sentinel-1.

In the folders that zhu-xlab/SSL4EO-S12 (2156913, src/benchmark/pretrain_ssl/datasets/SSL4EO/
ssl4eo_dataset.py) reads: ``ROOT/PRODUCT/PLACE/SCENE/BAND.tif``, with the products s1, s2a (L2A)
and s2c (L1C). Images have 264 x 264 pixels of 10 m; bands of 20 and 60 m may be stored with fewer.
B8 stands before B8A, unlike in MMEarth. Scenes are of 2020 and 2021 and have no added offset.

Images are of the product that the path ends with, or else of the sensor of the request: of
Sentinel-2 s2a before s2c. To images of Sentinel-2 belongs the modality ``sentinel-1`` of the scene
that is nearest in time, where there is s1.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from mmearth.api import PretrainSpec
from mmearth.errors import InputError, listed
from mmearth.models.card import ModelCard
from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.datasets.folders import read_bands, subfolders
from mmearth.pretraining.datasets.windows import (
    Arrays,
    WindowedDataset,
    check_crop,
    check_modalities,
    check_sensor,
    choose_bands,
    refuse_parts,
)
from mmearth.pretraining.modality import Modality
from mmearth.sensors import load_sensor

SIDE, RESOLUTION_M = 264, 10.0
ATTRIBUTION = "SSL4EO-S12: Wang et al. 2023, CC BY 4.0, of modified Copernicus Sentinel data"
RADAR = "sentinel-1"
# product -> sensor, level
PRODUCTS = {"s1": (RADAR, ""), "s2a": ("sentinel-2", "L2A"), "s2c": ("sentinel-2", "L1C")}
_COMMON = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09")
BANDS = {
    "s1": ("VV", "VH"),
    "s2a": (*_COMMON, "B11", "B12"),
    "s2c": (*_COMMON, "B10", "B11", "B12"),
}
# Mean and spread of 50,000 images, in decibels: ssl4eo_dataset.py.
RADAR_MEAN, RADAR_STD = (-12.54847273, -20.19237134), (5.25697717, 5.91150917)

_TIME = re.compile(r"(?:^|_)(\d{8}T\d{6})(?=_|$)")


class SSL4EOS12(WindowedDataset):
    """Places with their scenes; see ``WindowedDataset``."""

    def __init__(self, spec: PretrainSpec, like: ModelCard | None) -> None:
        super().__init__(spec.crop)
        root, self._product = _product(spec, like)
        self._folder, self._radar = root / self._product, root / "s1"
        self._sensor = load_sensor(PRODUCTS[self._product][0])
        self.sensor = self._sensor.id
        level = PRODUCTS[self._product][1]
        self.levels = (level,) if level else ()
        self.bands = _bands(spec, like, self._product)
        self._files = [_file(band) for band in self.bands]
        self._places = subfolders(self._folder, "places")
        self.resolution_m, self.split, self.warnings = RESOLUTION_M, "all", []
        self.attribution = spec.attribution or ATTRIBUTION
        # Of so many files, only their lists can be watched for changes.
        self.files = tuple(path for path in (self._folder, self._radar) if path.exists())
        self.normalisation = like.normalisation if like else self._measured(self._folder.name)
        wanted = spec.modalities or (RADAR,)
        paired = self._product != "s1" and self._radar.is_dir() and RADAR in wanted
        self.modalities = (
            Modality(self.sensor, "continuous", "pixel", len(self.bands), patch_norm=True),
            *([Modality(RADAR, "continuous", "pixel", len(BANDS["s1"]))] if paired else []),
        )

    def __len__(self) -> int:
        """Return the number of places."""
        return len(self._places)

    def _shape(self, place: int) -> tuple[int, int]:
        return SIDE, SIDE

    def _dates(self, place: int) -> int:
        return len(self._scenes(place))

    def _scenes(self, place: int) -> list[Path]:
        """Return the folders of the scenes of a place; errors as of ``subfolders``."""
        return subfolders(self._places[place], "scenes")

    def _image(self, place: int, date: int, window: Window) -> NDArray[np.float32]:
        scene = self._scenes(place)[date]
        return self._read(scene, self._files, self._sensor.id, window)

    def _others(self, place: int, date: int, window: Window) -> Arrays:
        if len(self.modalities) == 1:
            return {}
        shape = (len(BANDS["s1"]), int(window.height), int(window.width))
        folder = self._radar / self._places[place].name
        if not folder.is_dir() or not any(folder.iterdir()):
            return {RADAR: np.full(shape, np.nan, np.float32)}
        scenes = subfolders(folder, "scenes")
        when = _time(self._scenes(place)[date])
        # Stable: of scenes whose names tell no time, the one of the same rank.
        nearest = min(
            range(len(scenes)), key=lambda n: (_apart(_time(scenes[n]), when), abs(n - date))
        )
        values = self._read(scenes[nearest], list(BANDS["s1"]), RADAR, window)
        mean, std = (np.reshape(row, (-1, 1, 1)) for row in (RADAR_MEAN, RADAR_STD))
        return {RADAR: ((values - mean) / std).astype(np.float32)}

    def _read(
        self, scene: Path, files: list[str], sensor: str, window: Window
    ) -> NDArray[np.float32]:
        meaning = load_sensor(sensor)
        return np.concatenate(
            [
                read_bands(scene / f"{name}.tif", [1], meaning, window, (SIDE, SIDE), resample=True)
                for name in files
            ]
        )


def check(spec: PretrainSpec, like: ModelCard | None) -> tuple[str, ...]:
    """Look at a data set without reading its images, and return the bands that would be read.

    Raises:
        InputError, ModelError: as of ``open_dataset``.
    """
    return _bands(spec, like, _product(spec, like)[1])


def open_dataset(
    spec: PretrainSpec, like: ModelCard | None, learned: Dataset | None = None
) -> SSL4EOS12:
    """Open a data set, which has no parts, and measure mean and spread of its bands.

    Raises:
        InputError: if it does not hold what is asked for.
        RasterReadError: if a file is damaged or missing.
        ModelError: if the normalisation of ``like`` is within its network.
    """
    return SSL4EOS12(spec, like)


def _product(spec: PretrainSpec, like: ModelCard | None) -> tuple[Path, str]:
    """Return the folder of all products, and the product that images are of.

    Raises:
        InputError: if it is not there.
    """
    folder, sensor = Path(spec.data), like.sensor if like else spec.sensor
    check_sensor(sensor, tuple(dict.fromkeys(of for of, _ in PRODUCTS.values())), "SSL4EO-S12")
    refuse_parts(spec.split, "SSL4EO-S12")
    check_crop(spec.crop, SIDE, "SSL4EO-S12")
    check_modalities(spec.modalities, (sensor, RADAR), "SSL4EO-S12")
    named = folder.name in PRODUCTS
    root = folder.parent if named else folder
    fitting = [
        name
        for name in ([folder.name] if named else PRODUCTS)
        if PRODUCTS[name][0] == sensor and (root / name).is_dir()
    ]
    if not fitting:
        raise InputError(
            f"{folder} holds no images of {sensor}: expected a folder "
            f"{listed(name for name, (of, _) in PRODUCTS.items() if of == sensor)}.",
            "Choose the folder that the archives were unpacked into, or another sensor.",
        )
    return root, fitting[0]


def _bands(spec: PretrainSpec, like: ModelCard | None, product: str) -> tuple[str, ...]:
    sensor = load_sensor(PRODUCTS[product][0])
    return choose_bands(spec.bands, like, BANDS[product], sensor, f"SSL4EO-S12 ({product})")


def _file(band: str) -> str:
    """Return what a band is called there: B1, not B01."""
    return re.sub(r"^B0", "B", band)


def _time(scene: Path) -> datetime | None:
    found = _TIME.search(scene.name)
    return datetime.strptime(found[1], "%Y%m%dT%H%M%S") if found else None


def _apart(first: datetime | None, second: datetime | None) -> float:
    return abs((first - second).total_seconds()) if first and second else 0.0
