"""SSL4EO-EU-Forest: Sentinel-2 images of up to four dates of 2018, and what trees grow there.

In the folders of huggingface.co/datasets/dm4eo/ssl4eo_eu_forest, v1.0, as cmalbrec/ssl4eo_eu_forest
(0747cae, ssl4eo_eu_forest.py) reads them: ``meta.jsonl`` has a row for each place, with the paths
``images/ID/START_END_TILE/all_bands.tif`` (12 bands of L2A, B8 before B8A) and
``masks/ID/mask.tif``. The modality ``dominant-leaf-type`` is the mask, of three values: 0 no tree,
1 broadleaved, 2 coniferous (Copernicus High Resolution Layer of 2018).

Images are found by their own paths: by season, as that code keeps them, one of two of a season
would be lost. Images of another size than their mask are left out. There are no official parts;
train, val and test here are blocks of a degree.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from rasterio.windows import Window

from mmearth.api import PretrainSpec, Problem
from mmearth.errors import InputError, counted, listed
from mmearth.models.card import ModelCard
from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.datasets.blocks import SHARES, split_blocks
from mmearth.pretraining.datasets.folders import read_bands, read_codes
from mmearth.pretraining.datasets.listing import ALL, LEARNED
from mmearth.pretraining.datasets.mmearth_layout import classes
from mmearth.pretraining.datasets.windows import (
    Arrays,
    WindowedDataset,
    check_modalities,
    check_sensor,
    choose_bands,
)
from mmearth.pretraining.modality import Modality
from mmearth.sensors import load_sensor

NAME, SENSOR, META = "SSL4EO-EU-Forest", "sentinel-2", "meta.jsonl"
MASK, CODES = "dominant-leaf-type", (0, 1, 2)
RESOLUTION_M, LEVEL, BLOCK_DEGREES = 10.0, "L2A", 1.0
ATTRIBUTION = (
    "SSL4EO-EU-Forest: Ait Ali Braham and Albrecht 2025, CC BY 4.0, of modified Copernicus "
    "Sentinel data and the Copernicus High Resolution Layer Dominant Leaf Type 2018"
)
BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12",
)  # fmt: skip


class Image(BaseModel):
    """An image; what else is said of it does not matter here."""

    model_config = ConfigDict(frozen=True)

    path: str
    width: int
    height: int


class Place(BaseModel):
    """A row of the list; the box is west, south, east, north in degrees."""

    model_config = ConfigDict(frozen=True)

    mask_path: str
    bbox_epsg4326: tuple[float, float, float, float]
    mask_width: int
    mask_height: int
    images: tuple[Image, ...]

    @property
    def block(self) -> tuple[int, int]:
        """Row and column of the block that its middle lies in."""
        west, south, east, north = self.bbox_epsg4326
        middle = ((south + north) / 2, (west + east) / 2)
        return tuple(math.floor(degrees / BLOCK_DEGREES) for degrees in middle)  # type: ignore[return-value]


class EUForest(WindowedDataset):
    """Places with their images and masks; see ``WindowedDataset``.

    Args:
        spec: the request.
        like: model whose bands and normalisation are taken; None to measure them.
        learned: of the same request, whose statistics are taken.
    """

    def __init__(
        self, spec: PretrainSpec, like: ModelCard | None, learned: Dataset | None = None
    ) -> None:
        super().__init__(spec.crop)
        self.bands = check(spec, like)
        self._folder = Path(spec.data)
        self.sensor, self.levels = SENSOR, (LEVEL,)
        self.split = {None: LEARNED, "": ALL}.get(spec.split, spec.split) or ALL
        parts = _parts(_read(self._folder / META))
        self.parts = tuple(part for part in SHARES if parts[part])
        rows = parts[self.split]
        if not rows:
            raise InputError(
                f"No place of {self._folder} belongs to the part {self.split!r}: there are too few "
                "blocks of a degree.",
                "Choose an empty one for all images.",
            )
        self._places, self.warnings = _usable(rows, self._folder, spec.crop)
        self._channels = [BANDS.index(band) + 1 for band in self.bands]
        self.resolution_m = RESOLUTION_M
        self.attribution = spec.attribution or ATTRIBUTION
        images = [self._folder / one.path for place in self._places for one in place.images]
        masks = [self._folder / place.mask_path for place in self._places]
        self.files = (self._folder / META, *images, *masks)
        known = learned or like
        self.normalisation = known.normalisation if known else self._measured(NAME)
        labelled = [Modality(MASK, "categorical", "pixel", len(CODES))]
        if spec.modalities and MASK not in spec.modalities:
            labelled = []
        self.modalities = (
            Modality(SENSOR, "continuous", "pixel", len(self.bands), patch_norm=True),
            *labelled,
        )

    def __len__(self) -> int:
        """Return the number of places."""
        return len(self._places)

    def _shape(self, place: int) -> tuple[int, int]:
        row = self._places[place]
        return row.mask_height, row.mask_width

    def _dates(self, place: int) -> int:
        return len(self._places[place].images)

    def _image(self, place: int, date: int, window: Window) -> NDArray[np.float32]:
        path = self._folder / self._places[place].images[date].path
        return read_bands(
            path, self._channels, load_sensor(SENSOR), window, self._shape(place), count=len(BANDS)
        )

    def _others(self, place: int, date: int, window: Window) -> Arrays:
        if len(self.modalities) == 1:
            return {}
        path = self._folder / self._places[place].mask_path
        return {MASK: classes(read_codes(path, window, self._shape(place)), CODES)}


def check(spec: PretrainSpec, like: ModelCard | None) -> tuple[str, ...]:
    """Look at a data set without reading its images, and return the bands that would be read.

    Raises:
        InputError, ModelError: as of ``open_dataset``.
    """
    check_sensor(like.sensor if like else spec.sensor, (SENSOR,), NAME)
    check_modalities(spec.modalities, (SENSOR, MASK), NAME)
    if spec.split and spec.split not in SHARES:
        raise InputError(
            f"{NAME} has no part {spec.split!r}.",
            f"Choose {listed(map(repr, SHARES))}, or an empty one for all images.",
        )
    if not (Path(spec.data) / META).is_file():
        raise InputError(f"{spec.data} holds no {META}, which lists the places.", "Download it.")
    return choose_bands(spec.bands, like, BANDS, load_sensor(SENSOR), NAME)


def open_dataset(
    spec: PretrainSpec, like: ModelCard | None, learned: Dataset | None = None
) -> EUForest:
    """Open a data set, and measure mean and spread of its bands.

    Raises:
        InputError: if it does not hold what is asked for.
        RasterReadError: if a file is damaged.
        ModelError: if the normalisation of ``like`` is within its network.
    """
    return EUForest(spec, like, learned)


def _read(path: Path) -> list[Place]:
    places = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            places.append(Place.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(
                f"Row {number:,} of {path} cannot be read: {where}: {first['msg']}.",
                "Download it again.",
            ) from error
    return places


def _parts(rows: list[Place]) -> dict[str, list[Place]]:
    """Return the places of each part, and all of them."""
    parts = split_blocks([row.block for row in rows])
    return {ALL: rows, **{name: [rows[number] for number in held] for name, held in parts.items()}}


def _usable(rows: list[Place], folder: Path, crop: int) -> tuple[list[Place], list[Problem]]:
    """Return the places that can be learned from, with those images that can, and warnings.

    Raises:
        InputError: if there is none.
    """
    sizes = [(row.mask_width, row.mask_height) for row in rows]
    kept, odd, missing, small = [], 0, 0, 0
    for row, size in zip(rows, sizes, strict=True):
        fitting = [image for image in row.images if (image.width, image.height) == size]
        there = [image for image in fitting if (folder / image.path).is_file()]
        odd += len(row.images) - len(fitting)
        missing += len(fitting) - len(there)
        if min(size) < crop:
            small += 1
        elif there and (folder / row.mask_path).is_file():
            kept.append(row.model_copy(update={"images": tuple(there)}))
    told = [
        (odd, "image", "another size than the mask of their place"),
        (missing, "image", "not been downloaded"),
        (small, "place", f"fewer pixels than crops of {crop}"),
    ]
    warnings = [
        Problem(code="tiles", message=f"Left out, since they have {why}: {counted(number, what)}.")
        for number, what, why in told
        if number
    ]
    if not kept:
        found = " ".join(warning.message for warning in warnings)
        raise InputError(
            f"None of {counted(len(rows), 'place')} of {folder} can be learned from. {found}",
            "Download the images, or choose smaller crops.",
        )
    return kept, warnings
