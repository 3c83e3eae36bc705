"""Making data for pretraining of one's own rasters."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import Field, model_validator

from mmearth.api.base import Problem, Request, Schema
from mmearth.api.rasters import Extent, Scene


class PairImage(Scene):
    """An image of a known sensor: rasters of one date."""

    date: datetime.date | None = Field(None, description="Day that it was taken on.")
    level: str = Field(
        "", description="Processing level such as L2A; of Sentinel-2 it has to be stated."
    )


class PairRaster(Request):
    """A raster of a modality."""

    path: str = Field(min_length=1, description="File or GDAL dataset name.")
    date: datetime.date | None = Field(
        None, description="Day that it shows; empty if it does not matter."
    )


def _is_code(value: float) -> bool:
    return bool(-(2**31) <= value < 2**31) and value == int(value)


class PairModality(Request):
    """What else is known of the ground: radar, elevation, canopy height, land cover, anything."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Of the modality in the file.")
    kind: Literal["continuous", "categorical"] = Field(
        description="Whether it is measured, or tells classes."
    )
    rasters: list[PairRaster] = Field(
        min_length=1,
        description="Each with the same bands. Of several dates the one that is nearest to the "
        "image and covers the tile is taken; of one date, those that come first.",
    )
    nodata: float | None = Field(
        None, description="Value without data, if the files do not say it."
    )
    codes: list[int] = Field(
        default_factory=list, description="Of classes, all that the rasters hold, in order."
    )

    @model_validator(mode="after")
    def _codes_of_classes(self) -> PairModality:
        if (self.kind == "categorical") != bool(self.codes):
            raise ValueError("codes belong to the kind categorical, and to no other")
        if len(set(self.codes)) < len(self.codes):
            raise ValueError("a code is listed twice")
        odd = [code for code in self.codes if not _is_code(code)]
        if odd:
            raise ValueError(f"{odd[0]} is no code of a class: they have 32 bits")
        if self.codes and self.nodata is not None and not _is_code(self.nodata):
            raise ValueError(f"{self.nodata:g} is no whole number of 32 bits, as codes are")
        if self.nodata in self.codes:
            raise ValueError(f"{self.nodata:g} cannot be a class and stand for no data")
        return self


class PairOutputs(Schema):
    """Where the result goes."""

    folder: str = Field(
        min_length=1,
        description="Folder of the data set; its files are called like it. Its parent exists.",
    )


class PairSpec(Request):
    """Cut images into tiles, and pair each with what else is known of its ground.

    The result is in the layout of MMEarth's files, for pretraining with the kind of data set
    mmearth-h5. It says which tiles show one place on several dates, for methods that compare them.
    """

    kind: Literal["pair"] = "pair"
    sensor: str = Field("sentinel-2", description="Of the images.")
    bands: list[str] = Field(
        default_factory=list,
        description="Names of bands; if empty all of the sensor that the first image has.",
    )
    images: list[PairImage] = Field(min_length=1)
    modalities: list[PairModality] = Field(default_factory=list)
    extent: Extent | None = Field(None, description="Area; all of the images if empty.")
    strata: str | None = Field(
        None,
        description="Raster of classes; of each, equally many places are drawn. If empty, of each "
        "block of ground.",
    )
    size: int = Field(128, ge=16, le=1024, description="Side of a tile in pixels.")
    count: int | None = Field(None, ge=1, description="Places to draw; all if empty.")
    minimum_valid: float = Field(
        0.9, gt=0, le=1, description="Share of a tile's pixels that must have data."
    )
    block_km: float = Field(
        10.0, gt=0, description="Side of the blocks of ground that belong to one part as a whole."
    )
    validation: float = Field(0.1, ge=0, lt=0.5, description="Share of tiles of the part 'val'.")
    test: float = Field(0.0, ge=0, lt=0.5, description="Share of tiles of the part 'test'.")
    seed: int = Field(0, ge=0)
    outputs: PairOutputs


class PairResult(Schema):
    """Data for pretraining."""

    kind: Literal["pair"] = "pair"
    outputs: PairOutputs
    tiles: int
    places: int
    parts: dict[str, int] = Field(description="Tiles of each part.")
    known: dict[str, float] = Field(
        description="Share of the pixels of each modality that have data."
    )
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float
