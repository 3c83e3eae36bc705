"""The metadata that the QGIS plugin deepness (version 0.6.5) writes into ONNX files, both ways.

deepness divides stored numbers of any type by 255, subtracts ``standardization_mean`` and divides
by ``standardization_std``. Its mean and std therefore hold a sensor's scale and offset as well, and
a sensor's own stored numbers (reflectance x 10000 in 16 bits, say) are read rightly by it.
"""

from __future__ import annotations

import ast
import contextlib
import json
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmearth.errors import ModelError
from mmearth.models.card import ClassRow, ModelCard, Normalisation, Product
from mmearth.sensors import Sensor, load_sensor

CARD_KEY = "mmearth"  # our own entry among them: the whole card
PICTURE = 255.0  # what deepness divides stored numbers by
DEFAULT_TILE = 512  # what deepness cuts and shows where the file says nothing
DEFAULT_THRESHOLD = 0.5
# deepness's threshold includes 0, any presence at all, and 1; ours lies between.
LEAST_THRESHOLD = 1e-6
LEAST_OVERLAP = 25  # percent, as in our own maps; see mmearth.inference.tiles
MOST_CLASSES = 250
LONGEST_PYTHON = 20_000  # characters; 250 classes need fewer

# Paul Tol's "muted" scheme, told apart by the colour-blind too; its grey first, for background.
COLOURS = ("#dddddd", "#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677",
           "#882255", "#aa4499")  # fmt: skip


def write_metadata(card: ModelCard) -> dict[str, str]:
    """Return the metadata for a model whose file reads reflectance and gives probabilities.

    deepness does not know of processing baselines: where a product adds an offset to its numbers
    (Sentinel-2 from 2022 on), it must be taken off before. The threshold is 0: the likeliest class
    is mapped, as here.

    Args:
        card: of a model with classes.

    Returns:
        JSON by name.
    """
    sensor = load_sensor(card.sensor)
    bands = len(card.bands)
    names = {str(index): row.title for index, row in enumerate(card.classes)}
    facts = {
        "model_type": "Segmentor",
        "class_names": names,
        "resolution": 100 * card.resolution_m,  # centimetres
        "tile_size": card.tile_size,
        "tiles_size": card.tile_size,  # the name in deepness's manual
        "tiles_overlap": max(LEAST_OVERLAP, math.ceil(100 * card.overlap / card.tile_size)),
        "standardization_mean": [-sensor.offset / (PICTURE * sensor.scale)] * bands,
        "standardization_std": [1 / (PICTURE * sensor.scale)] * bands,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in facts.items()}


@dataclass(frozen=True)
class DeepnessModel:
    """What a deepness file says of itself.

    Attributes:
        class_names: None where it says nothing.
        resolution_m: pixel size in metres, None where it says nothing.
        tile_size: side in pixels, to be used where the network takes any.
        overlap: share of a tile.
        mean: of stored numbers / 255; empty for 0.
        std: likewise; empty for 1.
        threshold: least probability of a class, from 0 to 1.
    """

    class_names: tuple[str, ...] | None
    resolution_m: float | None
    tile_size: int
    overlap: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    threshold: float


def read_metadata(entries: Mapping[str, str], name: str) -> DeepnessModel:
    """Read the metadata of a segmentation model.

    Args:
        entries: JSON by name.
        name: of the file, for errors.

    Raises:
        ModelError: if it is a model of another kind, or its metadata are damaged.
    """
    try:
        found = {key: _value(key, entries[key]) for key in _READ if key in entries}
        kind = found.get("model_type", "")
        kind = kind[:40] if isinstance(kind, str) else reprlib.repr(kind)
        if kind.lower() != "segmentor":
            raise ModelError(
                f"{name} is a {kind} model." if kind else f"{name} does not say what it maps.",
                "Only ONNX files with deepness's metadata for segmentation can be imported: "
                "model_type must be Segmentor.",
            )
        names = found.get("class_names", found.get("names"))
        resolution = _number("resolution", found.get("resolution") or 0)
        if resolution < 0:
            raise ValueError(f"resolution is {resolution:g}, expected centimetres")
        threshold = _number("seg_thresh", found.get("seg_thresh", DEFAULT_THRESHOLD))
        if not 0 <= threshold <= 1:
            raise ValueError(f"seg_thresh is {threshold:g}, expected 0 to 1")
        overlap = _number("tiles_overlap", found.get("tiles_overlap", 0)) / 100
        if not 0 <= overlap < 1:
            raise ValueError(f"tiles_overlap is {100 * overlap:g}, expected 0 to 99")
        tile = _number("tile_size", found.get("tile_size", found.get("tiles_size", DEFAULT_TILE)))
        if not tile.is_integer():
            raise ValueError(f"tile_size is {tile:g}, expected whole pixels")
        standardised = "standardization_mean" in found and "standardization_std" in found
        return DeepnessModel(
            class_names=None if names is None else _class_names(names),
            resolution_m=resolution / 100 or None,
            tile_size=int(tile),
            overlap=overlap,
            mean=_numbers("standardization_mean", found) if standardised else (),
            std=_numbers("standardization_std", found) if standardised else (),
            threshold=threshold,
        )
    except ValueError as error:
        raise ModelError(
            f"The metadata of {name} cannot be read: {error}.",
            "Correct them as deepness's manual for creators of models says.",
        ) from error


_READ = (
    "model_type", "class_names", "names", "resolution", "tile_size", "tiles_size", "tiles_overlap",
    "standardization_mean", "standardization_std", "seg_thresh",
)  # fmt: skip


def _value(key: str, text: str) -> Any:
    """Read JSON, or the Python that older files hold."""
    try:
        try:
            value = json.loads(text)
        except ValueError:
            if len(text) > LONGEST_PYTHON:
                raise
            value = ast.literal_eval(text)
        json.dumps(value, ensure_ascii=False).encode()  # fails of halves of characters
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{key} is {reprlib.repr(text)}, expected JSON") from error
    return value


def _number(key: str, value: Any) -> float:
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        number = float(value)
        if math.isfinite(number):
            return number
    raise ValueError(f"{key} is {reprlib.repr(value)}, expected a number")


def _numbers(key: str, found: Mapping[str, Any]) -> tuple[float, ...]:
    values = found[key]
    if not isinstance(values, (list, tuple)):
        raise ValueError(f"{key} is {reprlib.repr(values)}, expected a list of numbers")
    return tuple(_number(key, value) for value in values)


def _class_names(names: Any) -> tuple[str, ...]:
    if isinstance(names, list) and len(names) == 1:  # one for each output of the network
        (names,) = names
    try:
        rows = sorted((int(key), str(value)) for key, value in names.items())
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ValueError(
            f"class_names is {reprlib.repr(names)}, expected a title for each number of a class"
        ) from None
    if [number for number, _ in rows] != list(range(len(rows))):
        found = reprlib.repr([number for number, _ in rows])
        raise ValueError(f"the numbers of classes are {found}, expected 0, 1, 2 and so on")
    return tuple(name for _, name in rows)


def normalisation(model: DeepnessModel, sensor: Sensor, bands: int) -> Normalisation:
    """Return how a sensor's reflectance becomes what the network reads.

    Raises:
        ModelError: if the means and standard deviations are not one for each band, or too large or
            small to be computed with.
    """
    mean, std = model.mean or (0.0,) * bands, model.std or (1.0,) * bands
    if not len(mean) == len(std) == bands or min(std) <= 0:
        raise ModelError(
            f"The file standardises with {len(mean)} means and {len(std)} standard deviations; "
            f"expected {bands}, and the latter above 0.",
            "Correct the metadata of the ONNX file.",
        )
    unit = PICTURE * sensor.scale
    means = tuple(sensor.offset + unit * value for value in mean)
    stds = tuple(unit * value for value in std)
    least, most = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    if max(map(abs, means)) > most or max(stds) > most or min(stds) < least:
        raise ModelError(
            f"The file standardises with a mean of {max(mean, key=abs):g} and standard deviations "
            f"of {min(std):g} to {max(std):g}, which cannot be computed with.",
            "Correct standardization_mean and standardization_std in the metadata of the ONNX "
            "file.",
        )
    return Normalisation(mean=means, std=stds)


def class_rows(model: DeepnessModel, count: int, name: str) -> tuple[ClassRow, ...]:
    """Return the classes, the first with value 1, as in deepness's own maps.

    Args:
        model: what the file says.
        count: classes that the network tells apart.
        name: of the file, for errors.

    Raises:
        ModelError: if it names another number of classes, or there are too many.
    """
    titles = model.class_names or tuple(f"Class {index + 1}" for index in range(count))
    if count == 2 and len(titles) == 1:  # deepness, too, names the other one itself
        titles = ("background", *titles)
    if len(titles) != count or count > MOST_CLASSES:
        raise ModelError(
            f"{name} names {len(titles)} classes, but its network tells {count} apart; "
            f"at most {MOST_CLASSES} can be mapped.",
            "Correct class_names in the metadata of the ONNX file.",
        )
    rows: list[ClassRow] = []
    for index, title in enumerate(titles):
        plain = re.sub(r"\W+", "_", title.lower()).strip("_") or f"class_{index + 1}"
        while plain in {row.name for row in rows}:
            plain = f"{plain}_{index + 1}"
        colour = COLOURS[index % len(COLOURS)]
        rows.append(ClassRow(value=index + 1, name=plain, title=title or plain, color=colour))
    return tuple(rows)


def product(model: DeepnessModel, rows: tuple[ClassRow, ...], output: str) -> Product:
    """Return what deepness maps: presence above a threshold, or the likeliest class.

    Where no class reaches the threshold, deepness maps the first one.
    """
    threshold = min(max(model.threshold, LEAST_THRESHOLD), 1 - LEAST_THRESHOLD)
    if output == "presence":
        background, present = rows
        return Product(
            id="presence",
            title=present.title,
            members=(present.name,),
            threshold=threshold,
            classes=(present, background),
        )
    # Of independent probabilities the network sees to the threshold: see ``as_scores``.
    matters = output == "probabilities" and threshold > 1 / len(rows)
    return Product(
        id="classes",
        title="Classes",
        fallback=rows[0].name if matters else None,
        threshold=threshold,
        classes=rows,
    )
