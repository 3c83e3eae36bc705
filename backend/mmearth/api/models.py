"""Installed models, published ones, and the ways from one to the other."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mmearth.api.base import Problem, Request, Schema


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
    """An installed model, as a user sees it. One without products is an encoder, to be trained."""

    id: str
    version: str
    title: str
    description: str
    task: Literal["segmentation", "regression", "scene-labels", "features"] = Field(
        description="Maps classes, predicts a value of each pixel, labels whole images, or is an "
        "encoder, to be trained further."
    )
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
    limits: list[str] = Field(
        default_factory=list, description="What it does badly, or was never shown; a sentence each."
    )
    levels: list[str] = Field(default_factory=list, description="Processing levels of its input.")


class ModelList(Schema):
    """The installed models."""

    models: list[ModelInfo]


class PublishedInfo(Schema):
    """A published encoder, as its publisher describes it."""

    id: str
    title: str
    family: str
    licence: str
    licence_words: str = Field(description="What the licence means for the user.")
    attribution: str
    access: Literal["download", "own file"] = Field(
        description="Whether it can be downloaded, or its file is to be obtained by the user."
    )
    page: str = Field(description="Where the user obtains the file; empty if it is downloaded.")
    file: str = Field(description="Name of the file there.")
    url: str = Field(description="What is downloaded.")
    size_bytes: int | None = Field(None, description="Size of the download, where it is known.")
    sensor: str
    bands: list[str]
    levels: list[str]
    resolution_m: float
    installed: list[str] = Field(description="Identifiers of installed models made of it.")


class PublishedList(Schema):
    """The published encoders."""

    models: list[PublishedInfo]


class InstallSpec(Request):
    """Install a model: a published encoder, or from a file or folder of the user's own."""

    kind: Literal["install"] = "install"
    published: str | None = Field(None, description="Identifier of a published encoder.")
    source: str | None = Field(
        None,
        description="File or folder on this machine: weights as published (with 'published'), a "
        "model folder, a zip file of one, or an ONNX file. A published encoder is downloaded if "
        "empty.",
    )
    id: str | None = Field(None, description="Of the installed model; its own one if empty.")
    title: str | None = Field(None, description="Of the installed model; its own one if empty.")
    level: str | None = Field(
        None, description="Processing level of the images; the encoder's first one if empty."
    )
    sensor: str | None = Field(None, description="Sensor of an ONNX file that does not say it.")
    bands: list[str] = Field(
        default_factory=list, description="Bands, in order, of an ONNX file that does not say them."
    )
    resolution_m: float | None = Field(
        None, gt=0, description="Pixel size on the ground of an ONNX file that does not say it."
    )
    accept_licence: bool = Field(False, description="Whether the user accepts the licence.")


class InstallResult(Schema):
    """An installed model."""

    kind: Literal["install"] = "install"
    model: ModelInfo
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float


class ExportSpec(Request):
    """Write an installed model to a file that another machine can install."""

    kind: Literal["export"] = "export"
    model: str = Field(description="Identifier of an installed model.")
    target: str = Field(description="File to write: .zip (model folder) or .onnx.")


class ExportResult(Schema):
    """A written model."""

    kind: Literal["export"] = "export"
    target: str
    size_bytes: int
    model: str
    model_title: str
    warnings: list[Problem] = Field(default_factory=list)
    seconds: float
