"""Samples to judge a map by, and how right it is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmearth.api.base import Problem, Request, Schema
from mmearth.api.finetune import LabelClass

Allocation = Literal["proportional", "equal", "compromise"]


class SampleOutputs(Schema):
    """Where results go."""

    sample: str = Field(description="GeoPackage of the points, and of a table of the strata.")
    table: str | None = Field(None, description="CSV of the strata.")


class ExpectedAccuracy(Request):
    """What user's accuracy is expected of a class."""

    value: str = Field(min_length=1, description="Value, name or title of the class.")
    accuracy: float = Field(gt=0, lt=1)


class SampleDesignSpec(Request):
    """Draw a stratified random sample of the pixels of a class raster, to be interpreted."""

    kind: Literal["sampledesign"] = "sampledesign"
    raster: str = Field(min_length=1, description="One band of whole numbers; classes are strata.")
    classes: list[LabelClass] = Field(
        default_factory=list, description="Titles and colours, where the raster does not say them."
    )
    size: int | None = Field(
        None,
        ge=1,
        description="Points in all; if empty, as many as the target error and the minimum of each "
        "class need.",
    )
    target_error: float = Field(
        0.01, gt=0, lt=0.5, description="Standard error of overall accuracy, 0.01 for one percent."
    )
    expected: list[ExpectedAccuracy] = Field(
        default_factory=list, description="For the target error; others have expected_accuracy."
    )
    expected_accuracy: float = Field(
        0.8, gt=0, lt=1, description="User's accuracy that is expected of classes not named."
    )
    allocation: Allocation = Field(
        "compromise",
        description="proportional to the pixels; equal; or compromise: rare classes have the "
        "minimum, the others what is left, in proportion.",
    )
    minimum: int = Field(50, ge=2, description="Points of rare classes, for compromise.")
    seed: int = Field(0, ge=0)
    outputs: SampleOutputs


class Stratum(Schema):
    """A row of the table of strata."""

    value: int
    title: str
    color: str = Field("", description="As #rrggbb, empty if the raster states none.")
    pixels: int
    hectares: float = Field(description="On the ellipsoid.")
    weight: float = Field(description="Share of the hectares of all strata.")
    points: int = Field(description="Drawn from it.")


class SampleDesignResult(Schema):
    """What a finished design left behind."""

    kind: Literal["sampledesign"] = "sampledesign"
    outputs: SampleOutputs
    strata: list[Stratum]
    size: int
    expected_error: float = Field(
        description="Standard error of overall accuracy, if the expected accuracies come true."
    )
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float


class AssessOutputs(Schema):
    """Where results go. Only those that are named are made."""

    table: str | None = Field(None, description="CSV: confusion matrix and accuracies.")
    areas: str | None = Field(None, description="CSV: area of each class with its interval.")
    report: str | None = Field(None, description="HTML page that needs nothing but itself.")


class AssessSpec(Request):
    """Compare a map with what is known to be true."""

    kind: Literal["assess"] = "assess"
    map: str = Field(min_length=1, description="One band of whole numbers.")
    classes: list[LabelClass] = Field(
        default_factory=list, description="Titles and colours, where the map does not say them."
    )
    reference: str = Field(
        min_length=1,
        description="Vector file of any geometry, a sample of 'sampledesign' for example, or a "
        "raster of class codes.",
    )
    layer: str | None = Field(
        None, description="Layer of the vector file; if empty, that of the sample, or all that "
        "have the field."
    )  # fmt: skip
    field: str | None = Field(
        None, description="Holds the class; if empty, 'reference' of a sample. A raster has none."
    )
    outputs: AssessOutputs = Field(default_factory=AssessOutputs)


class Estimate(Schema):
    """A figure with its 95 % interval; all are empty where it cannot be told."""

    value: float | None
    standard_error: float | None
    low: float | None
    high: float | None


class ClassAssessment(Schema):
    """How right a map is in one class, and how much of the class there is."""

    value: int
    title: str
    color: str
    mapped: int = Field(description="Reference pixels that are mapped as it.")
    present: int = Field(description="Reference pixels that are it.")
    users_accuracy: Estimate
    producers_accuracy: Estimate
    f1: Estimate
    iou: Estimate
    mapped_hectares: float = Field(description="What the map shows, on the ellipsoid.")
    hectares: Estimate = Field(description="Corrected for the errors of the map.")


class AssessResult(Schema):
    """What a finished assessment left behind."""

    kind: Literal["assess"] = "assess"
    outputs: AssessOutputs
    accuracy: Estimate = Field(description="Overall accuracy, as a share of the area.")
    classes: list[ClassAssessment]
    matrix: list[list[int]] = Field(
        description="Reference pixels; rows are the map, columns the reference, as classes."
    )
    pixels: int = Field(description="Reference pixels that were compared.")
    clusters: int = Field(description="Points, polygons or blocks that these belong to.")
    designed: bool = Field(
        description="True if the reference is a sample of 'sampledesign', so that the intervals "
        "hold; otherwise they hold only if it was drawn at random in each class of the map."
    )
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float
