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
    density: str | None = Field(
        None,
        description="GeoTIFF, calibrated probability of the product's first class in hundredths of "
        "a percent, uint16, 65535 = no data; of products of one class against the rest.",
    )
    density_cells: str | None = Field(
        None,
        description="GeoTIFF with a pixel a cell: mean of the density (65535 = too little data), "
        "and share of the ground that has data, both in hundredths of a percent, uint16.",
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
    cell_m: float = Field(
        100.0,
        gt=0,
        description="Side of a cell of the density in metres; cells lie at its multiples in the "
        "CRS of the map.",
    )
    scheduler: str | None = Field(
        None,
        pattern=r"^(tcp|tls)://[^\s/]+:\d+$",
        description="Address of a Dask scheduler whose workers compute the tiles, such as "
        "tcp://host:8786; this machine if empty. The workers see the rasters under the same "
        "paths, and have the model installed.",
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
    cover_hectares: float | None = Field(
        None, description="Sum of probability x area; if a density is asked for."
    )
    cover_percent: float | None = Field(
        None, description="Mean probability by area; if a density is asked for."
    )


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
