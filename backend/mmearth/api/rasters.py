"""Rasters by reference, their bands, and the grid of a result."""

from __future__ import annotations

from enum import Enum
from typing import Literal

from pydantic import Field, model_validator

from mmearth.api.base import Request, Schema


class RasterInput(Schema):
    """One raster of a stack, by reference."""

    path: str = Field(
        min_length=1, description="File, GDAL dataset name, or Sentinel-2 .SAFE folder."
    )
    label: str = Field("", description="The name that its user knows it by, for messages.")


class BandChoice(Schema):
    """A model band that the user has assigned by hand."""

    band: str = Field(description="Band name in the model, for example B04.")
    input: int = Field(ge=0, description="Position in the list of inputs, from 0.")
    index: int = Field(ge=1, description="Band of that input, from 1.")


class Extent(Request):
    """A rectangle on the map."""

    bounds: tuple[float, float, float, float] = Field(
        description="xmin, ymin, xmax, ymax in units of the CRS."
    )
    crs: str = Field(description="Authority code such as EPSG:32632, or WKT.")


class MaskInput(Request):
    """A raster that says which pixels to leave out: clouds, shadows, or whatever its user drew.

    Of ``values``, ``above`` and ``bits`` one is given, or none: a scene classification of
    Sentinel-2 then leaves out its clouds, shadows and defective pixels, and any other raster
    whatever is not 0.
    """

    path: str = Field(min_length=1, description="File or GDAL dataset name.")
    label: str = Field("", description="The name that its user knows it by, for messages.")
    band: int | None = Field(
        None, ge=1, description="From 1. If empty: the band named SCL, or the first."
    )
    values: list[int] | None = Field(
        None, min_length=1, description="Pixels that hold one of these are left out."
    )
    above: float | None = Field(
        None, description="Pixels with more are left out, such as a probability of clouds."
    )
    bits: list[int] | None = Field(
        None,
        min_length=1,
        description="Pixels with one of these bits set are left out, counted from 0 for the "
        "lowest, as quality bands of Landsat and HLS describe them.",
    )

    @model_validator(mode="after")
    def _one_rule(self) -> MaskInput:
        if sum(rule is not None for rule in (self.values, self.above, self.bits)) > 1:
            raise ValueError("give only one of values, above and bits")
        if self.bits and not all(0 <= bit < 32 for bit in self.bits):
            raise ValueError("bits are counted from 0 to 31")
        return self


class Radiometry(Request):
    """How stored numbers become reflectance, when the files do not say it.

    reflectance = stored value x scale + offset
    """

    scale: float | None = Field(
        None, gt=0, description="As the file states, or as is usual for the sensor, if empty."
    )
    offset: float = Field(0.0, description="Takes the place of any offset that the file states.")


class MatchState(str, Enum):
    """How sure it is that a raster band is the model's band."""

    exact = "exact"
    """By its name, or chosen by the user."""
    likely = "likely"
    """By a common alias or by wavelength: shown in amber, used unless changed."""
    suggested = "suggested"
    """Only by position in a file of the usual band order: the user must confirm."""
    ambiguous = "ambiguous"
    """Several bands fit equally well: the user must choose."""
    missing = "missing"


class SourceBand(Schema):
    """One band of one input."""

    input: int
    index: int
    title: str = Field(description="What the user reads in a list, for example 'scene.tif: B04'.")
    wavelength_nm: float | None = None
    width_nm: float | None = Field(None, description="Full width at half maximum.")


class BandMatch(Schema):
    """What a model band is read from."""

    band: str
    title: str
    state: MatchState
    source: SourceBand | None = None
    reason: str = Field("", description="Why, in words: 'same name', '664.6 nm', …")
    residual_nm: float | None = Field(
        None,
        description="Wavelength of the source less that of the model's band, where it is stated.",
    )
    candidates: list[SourceBand] = Field(default_factory=list)


class GridInfo(Schema):
    """The grid of the result."""

    crs: str
    width: int
    height: int
    transform: tuple[float, float, float, float, float, float] = Field(
        description="Affine a, b, c, d, e, f: x = a*col + b*row + c, y = d*col + e*row + f."
    )
    pixel_m: float = Field(description="Ground size of a pixel in metres at the centre.")


class Scene(Request):
    """Rasters of one date, what their numbers mean, and which of their pixels to leave out."""

    inputs: list[RasterInput] = Field(description="Rasters; the finest one sets the grid.")
    bands: list[BandChoice] = Field(default_factory=list)
    radiometry: Radiometry | None = None
    masks: list[MaskInput] = Field(
        default_factory=list,
        description="A pixel is left out if one of them says so. They take the place of a scene "
        "classification that is found by itself.",
    )
    scene_classification: Literal["use", "ignore"] = Field(
        "use",
        description="Whether a band named SCL of the rasters, or that of a Sentinel-2 product, "
        "leaves out clouds, shadows and defective pixels if no mask is named.",
    )


class MappingSpec(Scene):
    """What all jobs need that run a model over rasters."""

    kind: str
    model: str = Field(description="Identifier of an installed model.")
    extent: Extent | None = Field(
        None, description="Area to map; all that the rasters share if empty."
    )
    tile_size: int | None = Field(None, description="Pixels; the model's own size if empty.")
