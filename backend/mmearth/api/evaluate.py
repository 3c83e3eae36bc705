"""How good the features of encoders are, by the protocols of the papers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mmearth.api.base import Problem, Request, Schema

EvaluationProtocol = Literal["knn", "linear", "frozen", "adapter", "full"]


class EncoderChoice(Schema):
    """An encoder to be evaluated."""

    model: str = Field(
        min_length=1, description="Identifier of an installed model, or folder of one."
    )
    random: bool = Field(
        False, description="Take its architecture alone, with weights drawn at random."
    )
    name: str = Field("", description="In tables and figures; the model's if empty.")


class TileLabels(Schema):
    """What is known of the tiles: a field of their list, or a raster beside each."""

    field: str | None = Field(
        None,
        description="Field of index.json: one label a tile, or a list of those that it bears.",
    )
    suffix: str | None = Field(
        None,
        description="Ending of the label rasters, in place of the tile's .tif, such as .label.tif: "
        "codes of classes, or probabilities in as many bands.",
    )
    codes: list[int] = Field(
        default_factory=list,
        description="Of the classes in label rasters of one band; all that they hold if empty.",
    )
    nodata: int | None = Field(
        None,
        description="Code of label rasters that stands for no label, beside the one that they "
        "state themselves.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> TileLabels:
        if (self.field is None) == (self.suffix is None):
            raise ValueError("give either a field of the list or the ending of label rasters")
        if self.nodata in self.codes:
            raise ValueError(f"{self.nodata} cannot be a class and stand for no label")
        return self


class EvaluateOutputs(Schema):
    """Where results go."""

    folder: str = Field(
        min_length=1,
        description="Folder of results.csv, results.json, report.html and the figures.",
    )


class EvaluateSpec(Request):
    """Evaluate encoders on labelled tiles.

    Each protocol is run on each share of the training tiles with each seed: a cell of the table. A
    cell that is finished is not computed again when the same request comes again.
    """

    kind: Literal["evaluate"] = "evaluate"
    data: str = Field(min_length=1, description="Folder of the tiles and their index.json.")
    labels: TileLabels
    encoders: list[EncoderChoice] = Field(min_length=1)
    protocols: list[EvaluationProtocol] = Field(["knn", "linear"], min_length=1)
    shares: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [1.0],
        min_length=1,
        description="Of the training tiles that are learned from.",
    )
    seeds: int = Field(3, ge=1, description="How often everything is repeated.")
    first_seed: int = Field(0, ge=0, description="The first of the seeds, which are consecutive.")
    crop: int = Field(
        64, ge=16, description="Side of the images in pixels; a multiple of the encoders' stride."
    )
    neighbours: int = Field(20, ge=1, description="Of the k-nearest-neighbour protocol.")
    steps: int = Field(200, ge=1, description="Of the optimiser, where there is one.")
    batch: int = Field(16, ge=2, description="Images of a step.")
    learning_rate: float | None = Field(
        None, gt=0, description="Its highest value; each protocol's own if empty."
    )
    train: str = Field("train", min_length=1, description="Part that is learned from.")
    test: str = Field("val", min_length=1, description="Part that is tested on.")
    outputs: EvaluateOutputs


class EvaluationRow(Schema):
    """A row of the table: one encoder, protocol and share over all seeds."""

    encoder: str
    protocol: EvaluationProtocol
    share: float
    images: int = Field(description="Learned from.")
    trained: int = Field(description="Parameters that were trained.")
    scores: dict[str, float] = Field(description="Mean over the seeds, by the name of the score.")
    spreads: dict[str, float] = Field(
        description="Standard deviation over the seeds (n - 1); 0 of a single one."
    )


class EvaluateResult(Schema):
    """What came of an evaluation."""

    kind: Literal["evaluate"] = "evaluate"
    outputs: EvaluateOutputs
    score: str = Field(description="Name of the score that figures show.")
    classes: list[str]
    rows: list[EvaluationRow]
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float
