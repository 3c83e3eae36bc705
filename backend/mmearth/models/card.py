"""The card of a model: ``model.json``, a STAC item with the MLM extension.

The card answers every question that a user would otherwise be asked: bands in order, level, scale,
statistics, pixel size, no-data rule, tile size, classes with names and colours, licence, training
data and measured accuracy. What MLM has a field for stands in that field; the rest under
``mmearth:*``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from mmearth.api import ClassInfo, ModelInfo, ProductInfo
from mmearth.errors import ModelError
from mmearth.models.inputs import InputStatistics
from mmearth.models.parts import (
    Accuracy,
    ClassRow,
    ContinuousValue,
    NetworkConfig,
    Normalisation,
    Part,
    Product,
)

__all__ = [
    "CARD_NAME",
    "ONNX_NAME",
    "WEIGHTS_NAME",
    "Accuracy",
    "ClassRow",
    "ContinuousValue",
    "ModelCard",
    "NetworkConfig",
    "Normalisation",
    "Product",
    "Task",
    "file_sha256",
    "parse_card",
    "read_card",
]

CARD_NAME = "model.json"
WEIGHTS_NAME = "model.safetensors"
ONNX_NAME = "model.onnx"

Task = Literal["segmentation", "regression", "scene-labels", "features"]
# What a card of each task holds of classes, products and value; the one decoder that it needs.
_HOLDS: dict[Task, tuple[bool, bool, bool]] = {
    "segmentation": (True, True, False),
    "regression": (False, False, True),
    "scene-labels": (True, False, False),
    "features": (False, False, False),
}
_PARTS = ("classes", "products", "value")
_DECODERS: dict[Task, str] = {"scene-labels": "scene", "features": "features"}
_VERBS: dict[Task, str] = {
    "segmentation": "map classes",
    "regression": "predict values",
    "scene-labels": "label whole images",
    "features": "be trained further",
}


class ModelCard(Part):
    """All that is known of a model.

    Attributes:
        task: ``segmentation`` maps classes, ``regression`` predicts ``value`` of each pixel,
            ``scene-labels`` tells which classes a whole image shows, any number of them, and
            ``features`` is an encoder, to be trained further.
        bands: names of the input bands, in the network's order.
        resolution_m: pixel size on the ground that the network was trained on.
        tile_size: side of a tile in pixels; a multiple of ``stride``.
        overlap: pixels that neighbouring tiles share at least: more for a network that sees far, so
            that what a pixel becomes does not hang on its place in a tile.
        temperature: probabilities = softmax(network output / temperature); of labels and values
            the sigmoid, likewise. Of a segmentation it may be one number for each class, in order:
            each class's output is then divided by its own (vector scaling without its bias, Guo et
            al. 2017, section 4.2), which may also change which class is the likeliest.
        value: what a regression predicts.
        inputs: what the training images were like, if it is known.
        limits: what the model is known to do badly, or was never shown; a sentence each.
        weights_name: of the file with the weights; an ONNX file holds the network as well.
        folder: where the card was read from.
    """

    id: str
    version: str
    title: str
    description: str
    task: Task = "segmentation"
    licence: str
    attribution: str
    sensor: str
    levels: tuple[str, ...]
    quantity: str
    bands: tuple[str, ...] = Field(min_length=1)
    normalisation: Normalisation
    resolution_m: float = Field(gt=0)
    tile_size: int = Field(gt=0)
    stride: int = Field(gt=0)
    overlap: int = Field(0, ge=0)
    temperature: float | tuple[float, ...]
    network: NetworkConfig
    classes: tuple[ClassRow, ...] = ()
    products: tuple[Product, ...] = ()
    value: ContinuousValue | None = None
    accuracy: tuple[Accuracy, ...] = ()
    limits: tuple[str, ...] = ()
    training: dict[str, Any] = Field(default_factory=dict)
    inputs: InputStatistics | None = None
    sha256: str
    weights_name: Literal["model.safetensors", "model.onnx"] = "model.safetensors"
    folder: Path

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        count = len(self.bands)
        if {len(self.normalisation.mean), len(self.normalisation.std)} != {count}:
            raise ValueError(f"{count} bands need {count} means and standard deviations")
        held = (bool(self.classes), bool(self.products), self.value is not None)
        for part, holds, wanted in zip(_PARTS, held, _HOLDS[self.task], strict=True):
            if holds != wanted:
                raise ValueError(f"the task {self.task} {'needs' if wanted else 'has no'} {part}")
        _check_temperature(self.temperature, count=len(self.classes) if self.products else 0)
        for task, decoder in _DECODERS.items():
            if (self.task == task) != (self.network.decoder == decoder):
                raise ValueError(f"the task {task} needs the decoder {decoder}, and no other does")
        if self.tile_size % self.stride:
            raise ValueError(f"tile size {self.tile_size} is no multiple of {self.stride}")
        if self.inputs is not None and self.inputs.band_count != count:
            raise ValueError(f"{count} bands need input statistics of as many")
        _unique("bands", self.bands)
        _unique("products", [product.id for product in self.products])
        names = [row.name for row in self.classes]
        for rows in (self.classes, *(product.classes for product in self.products)):
            _unique("names of classes", [row.name for row in rows])
            _unique("values of classes", [row.value for row in rows])
        for product in self.products:
            found = [row.name for row in product.classes]
            if unknown := set(product.members) - set(names):
                raise ValueError(f"product {product.id} has unknown members {unknown}")
            if product.members and len(found) != 2:
                raise ValueError(f"product {product.id} needs 2 classes, found {len(found)}")
            if product.fallback is not None and (product.members or product.fallback not in found):
                raise ValueError(f"product {product.id} has an unknown fallback")
            # The network's scores are told apart by their order only.
            if not product.members and found != names:
                raise ValueError(f"product {product.id} needs the classes {names}, found {found}")
        return self

    @property
    def class_count(self) -> int:
        """Number of classes that the network tells apart."""
        return len(self.classes)

    @property
    def output_count(self) -> int:
        """Number of scores that the network gives: of classes, or a single one of a value."""
        return 1 if self.value else self.class_count

    @property
    def purpose(self) -> str:
        """What the model does, in words that follow its title."""
        if self.value:
            low, high = self.value.range
            return f"predicts {self.value.title}, {low:g} to {high:g} {self.value.unit}".rstrip()
        return {
            "segmentation": f"maps {', '.join(product.id for product in self.products)}",
            "scene-labels": f"labels whole images with {self.class_count} classes",
            "features": "is an encoder, to be trained further",
        }[self.task]

    def require(self, task: Task) -> None:
        """Check that the model is made for a task.

        Raises:
            ModelError: if it does something else.
        """
        if self.task == task:
            return
        if self.task == "features":
            raise ModelError(
                f"{self.title} is an encoder and maps nothing by itself.",
                "Choose a model that maps something, or train one on this encoder.",
            )
        raise ModelError(
            f"{self.title} {self.purpose}; it does not {_VERBS[task]}.",
            f"Choose a model made to {_VERBS[task]}.",
        )

    @cached_property
    def card_sha256(self) -> str:
        """SHA-256 of the card as it stands in the folder; it names the weights by theirs."""
        return hashlib.sha256((self.folder / CARD_NAME).read_bytes()).hexdigest()

    @property
    def weights(self) -> Path:
        """The weight file."""
        return self.folder / self.weights_name

    @property
    def is_onnx(self) -> bool:
        """Whether the weights are an ONNX file: it reads tiles of ``tile_size`` only."""
        return self.weights_name == ONNX_NAME

    def product(self, product_id: str | None) -> Product:
        """Return a product by its identifier, or the first one.

        Raises:
            ModelError: if the model has no such product, or maps no classes at all.
        """
        self.require("segmentation")
        if product_id is None:
            return self.products[0]
        for product in self.products:
            if product.id == product_id:
                return product
        known = ", ".join(product.id for product in self.products)
        raise ModelError(f"{self.title} cannot map {product_id!r}.", f"It can map {known}.")

    def check_weights(self) -> None:
        """Check that the weight file is whole and the one that the card speaks of.

        Raises:
            ModelError: if it is missing or differs.
        """
        if not self.weights.is_file():
            raise ModelError(f"The weights of {self.title} are missing.", _REINSTALL)
        found = file_sha256(self.weights)
        if found != self.sha256:
            raise ModelError(
                f"The weights of {self.title} are damaged: expected SHA-256 {self.sha256[:12]}…, "
                f"found {found[:12]}….",
                _REINSTALL,
            )

    def info(self) -> ModelInfo:
        """Describe the model for the API."""
        return ModelInfo(
            id=self.id,
            version=self.version,
            title=self.title,
            description=self.description,
            task=self.task,
            sensor=self.sensor,
            bands=list(self.bands),
            resolution_m=self.resolution_m,
            tile_size=self.tile_size,
            products=[
                ProductInfo(
                    id=product.id,
                    title=product.title,
                    classes=[ClassInfo(**row.model_dump()) for row in product.classes],
                )
                for product in self.products
            ],
            licence=self.licence,
            attribution=self.attribution,
            size_bytes=self.weights.stat().st_size if self.weights.is_file() else 0,
            sha256=self.sha256,
            accuracy=[row.model_dump() for row in self.accuracy],
            limits=list(self.limits),
            levels=list(self.levels),
        )


def _check_temperature(temperature: float | tuple[float, ...], *, count: int) -> None:
    """Check that it is one number, or as many as classes that exclude each other."""
    each = temperature if isinstance(temperature, tuple) else (temperature,)
    if isinstance(temperature, tuple) and len(each) != count:
        wanted = f"one number or {count}" if count else "one number"
        raise ValueError(f"temperature must be {wanted}, found {len(each)}")
    if min(each) <= 0:
        raise ValueError(f"temperature must be more than 0, found {temperature}")


def _unique(what: str, values: Sequence[object]) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"{what} must differ from each other, found {list(values)}")


_REINSTALL = "Install the model, or the plugin that it came with, again."


@lru_cache(maxsize=64)
def _sha256(path: Path, _modified: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    return _sha256(path, path.stat().st_mtime_ns)


def read_card(folder: Path) -> ModelCard:
    """Read the card in a model's folder.

    Raises:
        ModelError: if it is missing, damaged or incomplete.
    """
    try:
        return parse_card((folder / CARD_NAME).read_text("utf-8"), folder)
    except OSError as error:
        raise ModelError(
            f"{folder.name} is no model: it has no {CARD_NAME}.", _REINSTALL
        ) from error
    except ValueError as error:  # not UTF-8
        raise ModelError(
            f"The card of model {folder.name} cannot be read: {error}.", _REINSTALL
        ) from error


def parse_card(text: str, folder: Path) -> ModelCard:
    """Read a card from the text of its STAC item.

    Args:
        text: JSON.
        folder: of the model.

    Raises:
        ModelError: if it is damaged or incomplete.
    """
    try:
        item = json.loads(text)
        properties = item["properties"]
        entry, output = properties["mlm:input"][0], properties["mlm:output"][0]
        own = {
            key.removeprefix("mmearth:"): value
            for key, value in properties.items()
            if key.startswith("mmearth:")
        }
        return ModelCard(
            id=item["id"],
            version=properties["version"],
            title=properties["title"],
            description=properties["description"],
            licence=own.pop("licence", properties["license"]),
            bands=entry["bands"],
            tile_size=entry["input"]["shape"][-1],
            classes=[
                ClassRow(
                    value=row["value"],
                    name=row["name"],
                    title=row["title"],
                    color=f"#{row['color_hint'].lower()}",
                )
                for row in output.get("classification:classes", ())
            ],
            # A multihash: 0x12 for SHA-256, 0x20 for its length of 32 bytes.
            sha256=item["assets"]["model"]["file:checksum"].removeprefix("1220"),
            weights_name=item["assets"]["model"]["href"].removeprefix("./"),
            folder=folder,
            **own,
        )
    except Exception as error:  # whatever is wrong with one model must not hide the others
        raise ModelError(
            f"The card of model {folder.name} cannot be read: {_short(error)}.", _REINSTALL
        ) from error


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        if first["type"] == "missing":
            return f"mmearth:{first['loc'][0]} is missing, which MMEarth needs"
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return str(error) or type(error).__name__
