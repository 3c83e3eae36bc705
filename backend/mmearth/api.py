"""The contract between the plugin, the command line and the backend.

Every request and answer of the HTTP interface is one of these models. ``backend/openapi.json`` is
made from them and committed; a test fails when the two differ. Pixels never travel: a job names
its rasters, and the backend opens them.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

API_VERSION = 1


class Schema(BaseModel):
    """Base of all messages: unknown fields are an error, so typing mistakes are found."""

    model_config = ConfigDict(extra="forbid")


class Request(Schema):
    """Base of what is asked for: infinities and "not a number" are an error too."""

    model_config = ConfigDict(allow_inf_nan=False)


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


class Radiometry(Request):
    """How stored numbers become reflectance, when the files do not say it.

    reflectance = stored value x scale + offset
    """

    scale: float | None = Field(
        None, gt=0, description="As the file states, or as is usual for the sensor, if empty."
    )
    offset: float = Field(0.0, description="Takes the place of any offset that the file states.")


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


class SegmentSpec(Request):
    """Map the classes of a model over a raster stack."""

    kind: Literal["segment"] = "segment"
    inputs: list[RasterInput] = Field(description="Rasters; the finest one sets the grid.")
    model: str = Field(description="Identifier of an installed model.")
    product: str | None = Field(None, description="Product of the model; its first one if empty.")
    extent: Extent | None = Field(
        None, description="Area to map; all that the rasters share if empty."
    )
    bands: list[BandChoice] = Field(default_factory=list)
    radiometry: Radiometry | None = None
    outputs: SegmentOutputs = Field(default_factory=SegmentOutputs)
    minimum_area_ha: float = Field(
        0.0, ge=0, description="Smaller polygons join their largest neighbour; 0 keeps all."
    )
    tile_size: int | None = Field(None, description="Pixels; the model's own size if empty.")


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


class Problem(Schema):
    """An error in words."""

    code: str
    message: str
    advice: str = ""


class GridInfo(Schema):
    """The grid of the result."""

    crs: str
    width: int
    height: int
    transform: tuple[float, float, float, float, float, float] = Field(
        description="Affine a, b, c, d, e, f: x = a*col + b*row + c, y = d*col + e*row + f."
    )
    pixel_m: float = Field(description="Ground size of a pixel in metres at the centre.")


class Plan(Schema):
    """What a job would do: bands, grid, effort, and what stands in its way."""

    bands: list[BandMatch] = Field(default_factory=list)
    sources: list[SourceBand] = Field(default_factory=list, description="All bands of all inputs.")
    grid: GridInfo | None = None
    tiles: int = 0
    seconds: float | None = Field(None, description="Estimated time.")
    seconds_measured: bool = Field(
        False, description="True if the estimate rests on an earlier run on this machine."
    )
    memory_bytes: int = Field(0, description="Estimated peak of the computing process.")
    warnings: list[Problem] = Field(default_factory=list)
    errors: list[Problem] = Field(default_factory=list)

    @property
    def ready(self) -> bool:
        """True if the job can run as it is."""
        return not self.errors


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
    nodata_pixels: int
    grid: GridInfo
    model: str
    model_title: str
    product: str
    polygon_count: int | None = None
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float


class JobState(str, Enum):
    """Where a job stands."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"

    @property
    def over(self) -> bool:
        """True if the job will not change any more."""
        return self in (JobState.succeeded, JobState.failed, JobState.cancelled)


class Job(Schema):
    """A job and its present state."""

    id: str
    state: JobState
    spec: SegmentSpec
    progress: float = Field(0.0, ge=0, le=1)
    stage: str = Field("", description="What is being done, in words.")
    eta_seconds: float | None = None
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    result: SegmentResult | None = None
    error: Problem | None = None


class JobList(Schema):
    """Jobs, newest first."""

    jobs: list[Job]


class ClassInfo(Schema):
    """A class of a model."""

    value: int
    name: str
    title: str
    color: str = Field(description="#rrggbb")


class ProductInfo(Schema):
    """Something that a model can map."""

    id: str
    title: str
    classes: list[ClassInfo]


class ModelInfo(Schema):
    """An installed model, as a user sees it."""

    id: str
    version: str
    title: str
    description: str
    sensor: str
    bands: list[str]
    resolution_m: float
    tile_size: int
    products: list[ProductInfo]
    licence: str
    attribution: str
    size_bytes: int
    sha256: str
    accuracy: list[dict[str, Any]] = Field(
        default_factory=list, description="Rows of name, value, data: as measured in training."
    )


class ModelList(Schema):
    """The installed models."""

    models: list[ModelInfo]


class ServiceInfo(Schema):
    """What the plugin needs to know of the backend it talks to."""

    app: Literal["mmearth"] = "mmearth"
    version: str
    api: int = API_VERSION
    pid: int
    python: str
    gdal: str
    torch: str
    device: str = Field(description="Device chosen in the settings: auto, cpu, cuda, mps.")
    threads: int
    home: str


class Health(Schema):
    """Answer of a living service."""

    status: Literal["ok"] = "ok"
    running: str | None = Field(None, description="Identifier of the job that is being computed.")
    queued: int = 0


class ErrorBody(Schema):
    """Body of every answer that is not a success."""

    error: Problem
