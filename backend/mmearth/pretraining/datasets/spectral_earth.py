"""SpectralEarth: patches of EnMAP images, of a place on one date or several.

In the folders that AABNassim/spectral_earth (5084a29, src/datasets/spectral_earth.py) reads:
``ROOT/enmap/PATCH/*.tif``, one file a date, of 128 x 128 pixels of 30 m and 202 of the bands of
EnMAP Level-2A, whose no data, -32768, counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from mmearth.api import PretrainSpec
from mmearth.errors import InputError
from mmearth.models.card import ModelCard
from mmearth.models.store.published import find_published
from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.datasets.folders import read_bands, subfolders
from mmearth.pretraining.datasets.windows import (
    WindowedDataset,
    check_crop,
    check_modalities,
    check_sensor,
    choose_bands,
    refuse_parts,
)
from mmearth.pretraining.modality import Modality
from mmearth.sensors import load_sensor

NAME, SENSOR = "SpectralEarth", "enmap"
SIDE, RESOLUTION_M, LEVEL = 128, 30.0, "L2A"
ATTRIBUTION = "SpectralEarth: Braham et al. 2025, of EnMAP data © DLR"
BANDS_OF = "spectralearth-rn50-moco"  # a published encoder, which reads all of them in order


class SpectralEarth(WindowedDataset):
    """Patches with their dates; see ``WindowedDataset``."""

    def __init__(self, spec: PretrainSpec, like: ModelCard | None) -> None:
        super().__init__(spec.crop)
        self.bands = check(spec, like)
        self._folder = Path(spec.data) / SENSOR
        self.sensor, self.levels, self.split = SENSOR, (LEVEL,), "all"
        held = _held()
        self._channels = [held.index(band) + 1 for band in self.bands]
        self._count = len(held)
        self._patches = subfolders(self._folder, "patches")
        self.resolution_m, self.warnings = RESOLUTION_M, []
        self.attribution = spec.attribution or ATTRIBUTION
        # Of so many files, only their list can be watched for changes.
        self.files = (self._folder,)
        self.normalisation = like.normalisation if like else self._measured(NAME)
        self.modalities = (
            Modality(SENSOR, "continuous", "pixel", len(self.bands), patch_norm=True),
        )

    def __len__(self) -> int:
        """Return the number of places."""
        return len(self._patches)

    def _shape(self, place: int) -> tuple[int, int]:
        return SIDE, SIDE

    def _dates(self, place: int) -> int:
        return len(self._images(place))

    def _images(self, place: int) -> list[Path]:
        """Return the images of a place, by date.

        Raises:
            InputError: if there is none.
        """
        folder = self._patches[place]
        found = sorted(folder.glob("*.tif"))
        if not found:
            raise InputError(f"{folder} holds no images.", "Unpack the archive again.")
        return found

    def _image(self, place: int, date: int, window: Window) -> NDArray[np.float32]:
        path = self._images(place)[date]
        return read_bands(
            path,
            self._channels,
            load_sensor(SENSOR),
            window,
            (SIDE, SIDE),
            count=self._count,
        )


def check(spec: PretrainSpec, like: ModelCard | None) -> tuple[str, ...]:
    """Look at a data set without reading its images, and return the bands that would be read.

    Raises:
        InputError, ModelError: as of ``open_dataset``.
    """
    check_sensor(like.sensor if like else spec.sensor, (SENSOR,), NAME)
    refuse_parts(spec.split, NAME)
    check_crop(spec.crop, SIDE, NAME)
    check_modalities(spec.modalities, (SENSOR,), NAME)
    folder = Path(spec.data) / SENSOR
    if not folder.is_dir():
        raise InputError(
            f"There is no folder {folder}.",
            f"Choose the folder that the one called {SENSOR} lies in.",
        )
    return choose_bands(spec.bands, like, _held(), load_sensor(SENSOR), NAME)


def open_dataset(
    spec: PretrainSpec, like: ModelCard | None, learned: Dataset | None = None
) -> SpectralEarth:
    """Open a data set, which has no parts, and measure mean and spread of its bands.

    Raises:
        InputError: if it does not hold what is asked for.
        RasterReadError: if a file is damaged.
        ModelError: if the normalisation of ``like`` is within its network.
    """
    return SpectralEarth(spec, like)


def _held() -> tuple[str, ...]:
    return find_published(BANDS_OF).bands
