"""Where forest was lost or gained between two dates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmearth.api.base import Problem, Request, Schema
from mmearth.api.rasters import Extent, GridInfo, Scene
from mmearth.api.segment import ClassArea


class DateScene(Scene):
    """Rasters of one date."""

    title: str = Field("", description="What the date is called in results, such as 2020-09.")


class DisturbanceOutputs(Schema):
    """Where results go. Only those that are named are made."""

    classes: str | None = Field(
        None,
        description="GeoTIFF, uint8: 1 stable forest, 2 loss, 3 gain, 4 stable non-forest, "
        "5 possible loss, 6 possible gain (by the probability of trees alone), 0 = no data or "
        "cloud on the first or last date.",
    )
    probability: str | None = Field(
        None,
        description="GeoTIFF, probability of a change, uint8 percent, 255 = no data. Changes are "
        "mapped from mapped_percent of the result on. Calibrated on bark-beetle damage at 160 "
        "sites; elsewhere it tells sure from doubtful places.",
    )
    polygons: str | None = Field(
        None, description="GeoPackage of the areas of change, possible ones too."
    )
    table: str | None = Field(None, description="CSV with the area of each class in hectares.")
    transitions: str | None = Field(
        None,
        description="CSV in hectares: forest and non-forest before in rows, after in columns; "
        "possible loss and gain in a column of their own.",
    )


class DisturbanceSpec(Request):
    """Map where forest was lost or gained between two dates, with a model that knows trees."""

    kind: Literal["disturbance"] = "disturbance"
    before: DateScene = Field(description="First date; it sets the grid.")
    after: DateScene = Field(description="Last date.")
    between: list[DateScene] = Field(
        default_factory=list,
        description="Dates in between, in order: a change must hold on to all later dates.",
    )
    model: str = Field(description="Identifier of an installed model with a class of trees.")
    extent: Extent | None = Field(
        None, description="Area to map; all that the dates share if empty."
    )
    tile_size: int | None = Field(None, description="Pixels; the model's own size if empty.")
    minimum_area_ha: float = Field(
        0.0,
        ge=0,
        description="Minimum mapping unit of the polygons: smaller areas of any class join their "
        "largest neighbour; 0 keeps all.",
    )
    outputs: DisturbanceOutputs = Field(default_factory=DisturbanceOutputs)


class DateInfo(Schema):
    """What is known of one date."""

    title: str
    role: Literal["before", "between", "after"]
    nodata_pixels: int = Field(description="Without data in a band.")
    masked_pixels: int = Field(description="Left out by a mask of clouds or bad pixels.")


class DisturbanceResult(Schema):
    """What a finished comparison left behind."""

    kind: Literal["disturbance"] = "disturbance"
    outputs: DisturbanceOutputs
    classes: list[ClassArea]
    dates: list[DateInfo] = Field(
        description="In order: files do not tell which is the earlier one, so look here."
    )
    nodata_pixels: int = Field(description="Without data on the first or last date.")
    masked_pixels: int = Field(
        description="Left out by a mask on the first or last date; not among nodata_pixels."
    )
    rule: str = Field(
        description="How change was told: 'sentinel-2', 'sentinel-2-10m' or 'probability'."
    )
    mapped_percent: int = Field(
        description="Probability from which on a change is mapped: where maps are best, not 50."
    )
    grid: GridInfo
    model: str
    model_title: str
    polygon_count: int | None = None
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float
