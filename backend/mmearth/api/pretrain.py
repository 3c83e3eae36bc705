"""Teaching an encoder from images without labels."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from mmearth.api.base import Problem, Request, Schema


class PretrainOutputs(Schema):
    """Where the result goes."""

    model: str = Field(
        min_length=1,
        description="Folder of the encoder, with the log of its training and a picture. It is "
        "empty, or does not exist yet.",
    )
    events: str | None = Field(
        None,
        description="Folder for files of TensorBoard, which show the training as it goes; needs "
        "the optional part 'tensorboard' of the backend.",
    )


class PretrainSpec(Request):
    """Teach an encoder from images without labels.

    It is shown a part of each image, and learns to tell the rest and where on earth it is. What
    else it learns to tell, elevation for example, the data set has to list; a map among it is a
    label, and the model card then says so.
    """

    # A step under way comes to its end, which takes a while without a graphics card: by force, all
    # since the last state that was kept would be lost.
    cancel_seconds: ClassVar[float] = 60.0

    kind: Literal["pretrain"] = "pretrain"
    data: str = Field(min_length=1, description="Folder of the data set.")
    dataset: str = Field(
        "tiles",
        description="Kind of the data set: tiles (images and index.json), mmearth-h5, ssl4eo-s12, "
        "ssl4eo-eu-forest, spectral-earth.",
    )
    split: str | None = Field(
        None,
        description="Part of the data set, all of it if empty. By default 'train' where the data "
        "set has parts.",
    )
    sensor: str = Field("sentinel-2", description="Of the images.")
    like: str | None = Field(
        None, description="Installed model whose bands and normalisation are taken."
    )
    bands: list[str] = Field(
        default_factory=list,
        description="Names of bands, in order; if empty those of the model or all of the images.",
    )
    modalities: list[str] = Field(
        default_factory=list,
        description="What is to be predicted beside the image; if empty all that the data set "
        "lists, and where its images lie. The name of the sensor alone predicts the image only.",
    )
    method: str = Field("mp-mae", description="Name of a pretext method.")
    encoder: str = Field("mmearth-atto-p16", description="Name of an encoder.")
    steps: int = Field(3000, ge=1, description="Steps of the optimiser.")
    batch: int = Field(32, ge=2, description="Images of a step.")
    accumulate: int = Field(
        1,
        ge=1,
        description="Parts that a step's images are computed in, to save memory; the number of "
        "images is a multiple of it. What is learned is the same to rounding, but of networks that "
        "normalise by their batch (batch norm), which is a part in one process.",
    )
    crop: int = Field(80, ge=8, description="Side of a crop in pixels; a multiple of the patch.")
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="Its highest value; by default the published one of the method, less for fewer "
        "images of a step.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Of the method, by name; what is left out is as published. An unknown one is "
        "answered with those that there are.",
    )
    seed: int = Field(0, ge=0)
    id: str | None = Field(None, description="Of the encoder; the folder's name if empty.")
    title: str = Field("", description="Of the encoder; made from its parts if empty.")
    licence: str = Field("", description="Of the encoder; an SPDX identifier where there is one.")
    attribution: str = Field("", description="Whom the images are owed to.")
    outputs: PretrainOutputs


class PretrainResult(Schema):
    """A pretrained encoder."""

    kind: Literal["pretrain"] = "pretrain"
    outputs: PretrainOutputs
    model: str = Field(description="Identifier of the encoder.")
    tiles: int = Field(description="Places learned from; an image that is of none is one.")
    steps: int
    losses: dict[str, float] = Field(description="Of each modality, over the last steps.")
    first_losses: dict[str, float] = Field(description="The same over the first steps.")
    held_losses: dict[str, float] = Field(
        default_factory=dict,
        description="Of each modality at the end, on images that were not learned from; empty if "
        "there are none.",
    )
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float
