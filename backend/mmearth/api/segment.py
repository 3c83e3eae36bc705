"""Mapping the classes of a model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmearth.api.base import Problem, Schema
from mmearth.api.rasters import GridInfo, MappingSpec


class SegmentOutputs(Schema):
    """Where results go. Only those that are named are made."""

    classes: str | None = Field(None, description="GeoTIFF of class codes, uint8, 0 = no data.")
    probabilities: str | None = Field(
        None, description="GeoTIFF, one band a class, uint8 percent, 255 = no data."
    )
    confidence: str | None = Field(
        None, description="GeoTIFF, probability of the mapped class, uint8 percent, 255 = no data."
    )
    polygons: str | None = Field(None, description="GeoPackage of the mapped areas.")
    table: str | None = Field(None, description="CSV with the area of each class in hectares.")


class SegmentSpec(MappingSpec):
    """Map the classes of a model over a raster stack."""

    kind: Literal["segment"] = "segment"
    product: str | None = Field(None, description="Product of the model; its first one if empty.")
    outputs: SegmentOutputs = Field(default_factory=SegmentOutputs)
    minimum_area_ha: float = Field(
        0.0, ge=0, description="Smaller polygons join their largest neighbour; 0 keeps all."
    )


class ClassArea(Schema):
    """A row of the area table."""

    value: int
    name: str
    title: str
    color: str
    pixels: int
    hectares: float = Field(description="On the ellipsoid, not on the map plane.")
    percent: float


class SegmentResult(Schema):
    """What a finished segmentation left behind."""

    kind: Literal["segment"] = "segment"
    outputs: SegmentOutputs
    classes: list[ClassArea]
    nodata_pixels: int = Field(description="Without data in a band.")
    masked_pixels: int = Field(0, description="Left out by a mask of clouds or bad pixels.")
    grid: GridInfo
    model: str
    model_title: str
    product: str
    polygon_count: int | None = None
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float
