"""Features of an encoder as a raster, and how alike they are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmearth.api.base import Problem, Request, Schema
from mmearth.api.rasters import GridInfo, MappingSpec


class EmbedOutputs(Schema):
    """Where results go. Only those that are named are made."""

    features: str | None = Field(
        None, description="GeoTIFF, one band a feature, float32, NaN = no data."
    )
    view: str | None = Field(
        None, description="GeoTIFF of the first three principal components, uint8, 0 = no data."
    )


class EmbedSpec(MappingSpec):
    """Compute the features of a model's encoder over a raster stack."""

    kind: Literal["embed"] = "embed"
    stride: int | None = Field(
        None,
        ge=1,
        description="Pixels of the rasters along a side of a pixel of features, of those that the "
        "encoder offers. If empty: of an encoder the coarsest; of a model that maps classes 4, or "
        "the nearest to it.",
    )
    outputs: EmbedOutputs = Field(default_factory=EmbedOutputs)


class EmbedResult(Schema):
    """What finished features left behind."""

    kind: Literal["embed"] = "embed"
    outputs: EmbedOutputs
    features: int = Field(description="Number of features of a pixel.")
    explained: list[float] = Field(
        default_factory=list, description="Share of variance of each component that is shown."
    )
    nodata_pixels: int = Field(description="Without data in a band.")
    masked_pixels: int = Field(
        0, description="Without features, and touched by a mask of clouds or bad pixels."
    )
    grid: GridInfo
    model: str
    model_title: str
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float


class SimilarityOutputs(Schema):
    """Where the result goes."""

    similarity: str = Field(description="GeoTIFF, cosine from -1 to 1, float32, NaN = no data.")


class SimilaritySpec(Request):
    """Tell how alike each pixel is to chosen places, by the features of an encoder."""

    kind: Literal["similarity"] = "similarity"
    features: str = Field(min_length=1, description="GeoTIFF of features, as 'embed' makes it.")
    references: str = Field(min_length=1, description="Vector file of points or polygons.")
    layer: str | None = Field(None, description="Layer of the vector file; its first one if empty.")
    outputs: SimilarityOutputs


class SimilarityResult(Schema):
    """What a finished comparison left behind."""

    kind: Literal["similarity"] = "similarity"
    outputs: SimilarityOutputs
    references: int = Field(description="Places that were compared with.")
    reference_pixels: int = Field(description="Pixels of the features under these places.")
    grid: GridInfo
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float
