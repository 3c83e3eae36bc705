"""Training a model on labels that were drawn on the map, and looking at it while they are drawn."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mmearth.api.base import Problem, Schema
from mmearth.api.models import ModelInfo
from mmearth.api.rasters import GridInfo, MappingSpec

Protocol = Literal["quick", "adapter", "full"]


class LabelClass(Schema):
    """A class to be learned."""

    value: str = Field(description="As it stands in the field, or the code in a label raster.")
    title: str = Field("", description="What the user reads; the value if empty.")
    color: str = Field("", pattern="^(#[0-9a-f]{6})?$", description="#rrggbb; chosen if empty.")


class LabelSource(Schema):
    """Labels by reference: a vector file with a class field, or a raster of class codes."""

    path: str = Field(min_length=1, description="Vector file or label raster.")
    layer: str | None = Field(
        None, description="Layer of a vector file; every layer that has the field if empty."
    )
    field: str | None = Field(
        None, description="Field that holds the class; a label raster has none."
    )
    classes: list[LabelClass] = Field(
        default_factory=list,
        description="Classes to learn, in order; labels of others are left out. All if empty.",
    )


class LabelCount(Schema):
    """How much a class is labelled within the rasters."""

    value: str
    title: str
    units: int = Field(description="Polygons, lines and points; of a label raster, blocks.")
    pixels: int


class FinetuneOutputs(Schema):
    """Where results go. The model goes among the installed ones if no folder is named."""

    model: str | None = Field(None, description="Folder of the tuned model.")
    report: str | None = Field(None, description="HTML page; beside the model if empty.")


class FinetuneSpec(MappingSpec):
    """Train a model on drawn labels. ``model`` is what is built on: any model or encoder."""

    # A cancelled training still saves its best epoch so far.
    cancel_seconds: ClassVar[float] = 120.0

    kind: Literal["finetune"] = "finetune"
    labels: LabelSource
    protocol: Protocol = Field(
        "quick",
        description="quick: a new head on the frozen network; adapter: small additions to the "
        "frozen encoder as well; full: all weights.",
    )
    from_scratch: bool = Field(
        False, description="Take the architecture of the model and none of its weights."
    )
    loss: str = Field("cross-entropy", description="Name of a loss function; not for quick.")
    validation: float = Field(
        0.25, ge=0, le=0.5, description="Share of the labels that is tested on; 0 tests nothing."
    )
    epochs: int | None = Field(None, ge=1, le=1000, description="Most epochs; not for quick.")
    seed: int = Field(0, ge=0)
    id: str | None = Field(None, description="Of the tuned model; made from the title if empty.")
    title: str = Field("", description="Of the tuned model; made from the base if empty.")
    outputs: FinetuneOutputs = Field(default_factory=FinetuneOutputs)


class ClassScore(Schema):
    """What was measured of a class on labels that were not learned from."""

    value: str
    title: str
    color: str
    units: int
    pixels: int
    iou: float | None = Field(None, description="Intersection over union; empty if not tested.")
    f1: float | None = None


class FinetuneResult(Schema):
    """What a finished training left behind."""

    kind: Literal["finetune"] = "finetune"
    model: ModelInfo
    outputs: FinetuneOutputs
    protocol: Protocol
    accuracy: float | None = Field(None, description="Share of tested pixels that is right.")
    accuracy_low: float | None = Field(None, description="Lower end of its 95 % interval.")
    accuracy_high: float | None = None
    baseline_accuracy: float | None = Field(
        None, description="Of a random forest on the raw bands, with the same labels."
    )
    classes: list[ClassScore]
    epochs: int = Field(0, description="Epochs done.")
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float


class PreviewOutputs(Schema):
    """Where the preview goes. Files of an earlier one are replaced."""

    classes: str = Field(description="GeoTIFF of the extent, class numbers from 1, 0 = no data.")
    uncertainty: str | None = Field(
        None,
        description="GeoTIFF, 0 (sure) to 100 (two classes are equally likely), 255 = no data.",
    )


class PreviewSpec(MappingSpec):
    """Map a small extent by a head that is trained on the labels of the moment.

    What the network says of a tile is kept in memory, so only what is new is computed.
    """

    # A tile under way comes to its end: by force, all that is kept in memory would be lost.
    cancel_seconds: ClassVar[float] = 30.0

    kind: Literal["preview"] = "preview"
    labels: LabelSource
    seed: int = Field(0, ge=0)
    outputs: PreviewOutputs


class Suggestion(Schema):
    """A place where a label would teach the most."""

    x: float = Field(description="In units of the grid's CRS.")
    y: float
    uncertainty: float = Field(description="0 to 100.")


class PreviewResult(Schema):
    """A finished preview."""

    kind: Literal["preview"] = "preview"
    outputs: PreviewOutputs
    classes: list[LabelCount]
    suggestions: list[Suggestion] = Field(
        default_factory=list, description="Within the extent, the most useful first."
    )
    grid: GridInfo
    tiles_computed: int = Field(description="Tiles that were not yet in memory.")
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float
