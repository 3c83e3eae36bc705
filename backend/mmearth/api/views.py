"""Cutting scenes of several dates into patches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmearth.api.base import Problem, Request, Schema


class ViewsOutputs(Schema):
    """Where the result goes."""

    folder: str = Field(
        min_length=1,
        description="New folder: index.json, and for each place a folder with a GeoTIFF of each "
        "date.",
    )


class ViewsSpec(Request):
    """Cut a folder of overlapping scenes into patches of as many dates as there are.

    No pixel is resampled, and no ground cut twice. Scenes of another coordinate reference system
    or other pixels make patches of their own. By blocks of ground, patches belong to the parts
    'train' and 'val'; those to learn from that show ground of 'val' on other pixels to 'shared'.
    """

    kind: Literal["views"] = "views"
    scenes: str = Field(min_length=1, description="Folder of the scenes and of folders of them.")
    images: str = Field("*.tif", description="Names of the scenes' files; '*' stands for any text.")
    masks: str = Field(
        "",
        description="Names of their cloud masks, '*' for the same text: '*-QL_QUALITY_CLOUD.TIF' "
        "with scenes '*-SPECTRAL_IMAGE.TIF'. If empty, a scene classification (SCL) in the scenes "
        "is used where they have one.",
    )
    size: int = Field(128, ge=8, le=4096, description="Side of a patch in pixels.")
    step: int = Field(
        32, ge=1, description="Pixels between positions that are tried; it divides the side."
    )
    least_dates: int = Field(1, ge=1, description="Dates that a place has at least.")
    minimum_valid: float = Field(
        1.0, gt=0, le=1, description="Share of a patch's pixels that must have data."
    )
    clouds: float = Field(0.1, ge=0, le=1, description="Largest share of a patch under clouds.")
    block_km: float = Field(
        10.0, gt=0, description="Side of the blocks of ground that belong to one part as a whole."
    )
    validation: float = Field(0.1, ge=0, lt=0.5, description="Share of patches of the part 'val'.")
    outputs: ViewsOutputs


class ViewsResult(Schema):
    """Patches of several dates."""

    kind: Literal["views"] = "views"
    outputs: ViewsOutputs
    scenes: int = Field(description="Scenes that were looked at.")
    places: dict[int, int] = Field(description="Number of dates -> places that have so many.")
    parts: dict[str, int] = Field(description="Patches of each part, a date each.")
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float
