"""Writing a model folder: weights, card, and the same in words."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save_file

from mmearth.models.card import (
    CARD_NAME,
    ONNX_NAME,
    WEIGHTS_NAME,
    ModelCard,
    Normalisation,
    file_sha256,
    read_card,
)
from mmearth.models.readme import README_NAME, describe
from mmearth.sensors import SensorBand, load_sensor

MLM_SCHEMA = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
CLASSIFICATION_SCHEMA = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
EO_SCHEMA = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"
FILE_SCHEMA = "https://stac-extensions.github.io/file/v2.1.0/schema.json"

# Our tasks by their names in MLM, which has none for an encoder.
TASKS = {
    "segmentation": ["semantic-segmentation"],
    "regression": ["regression"],
    "scene-labels": ["scene-classification"],
    "features": [],
}
# STAC's field takes one SPDX identifier, or this word.
OTHER_LICENCE = "other"
_SPDX = re.compile(r"[\w.+-]+")

# What MLM has a field for; everything else of a card goes under ``mmearth:``.
_STANDARD = {
    "id", "version", "title", "description", "licence", "bands", "tile_size", "classes", "sha256",
    "weights_name", "folder",
}  # fmt: skip

# Framework and type of artifact, by the name of the weight file.
_FORMATS = {
    WEIGHTS_NAME: ("PyTorch", "safetensors.torch.save_file"),
    ONNX_NAME: ("ONNX", "onnx"),
}


def save_model(
    folder: Path,
    state: Mapping[str, torch.Tensor] | Path,
    facts: Mapping[str, Any],
    *,
    half: bool = True,
    beside: Mapping[str, str] = MappingProxyType({}),
) -> ModelCard:
    """Write a model folder, whole or not at all.

    Weights are stored in half precision, unless told otherwise: half the download, and a rounding
    far below that of the percent values of a map.

    Args:
        folder: where to; replaced if it exists.
        state: weights of the network, or an ONNX file, which is copied as it is.
        facts: fields of ``ModelCard`` except ``sha256``, ``weights_name`` and ``folder``.
        half: whether weights are rounded to half precision.
        beside: texts of further files, by their names, such as ``reliability.svg``; other files
            that are in the folder already stay as they are.

    Returns:
        The card as read back.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        if isinstance(state, Path):
            weights = temporary / ONNX_NAME
            shutil.copyfile(state, weights)
        else:
            weights = temporary / WEIGHTS_NAME
            save_file({name: _stored(tensor, half) for name, tensor in state.items()}, weights)
        file = {"sha256": file_sha256(weights), "weights_name": weights.name, "folder": folder}
        card = ModelCard(**{**facts, **file})
        item = json.dumps(stac_item(card, weights.stat().st_size), indent=1, ensure_ascii=False)
        (temporary / CARD_NAME).write_text(item + "\n", "utf-8")
        for name, text in beside.items():
            (temporary / name).write_text(text, "utf-8")
        for kept in folder.glob("*"):
            if not (temporary / kept.name).exists():
                shutil.copy2(kept, temporary)
        words = describe(card.model_copy(update={"folder": temporary}))
        (temporary / README_NAME).write_text(words, "utf-8")
        _exchange(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return read_card(folder)


def _exchange(new: Path, folder: Path) -> None:
    """Move a folder to its place; the one that is there goes only when the new one has come."""
    old = folder.with_name(f"{new.name}.old")
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(new, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _stored(tensor: torch.Tensor, half: bool) -> torch.Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if half and tensor.is_floating_point() else tensor


def stac_item(card: ModelCard, size: int) -> dict[str, Any]:
    """Return a card as a STAC item with the MLM extension (version 1.5.2)."""
    sensor = load_sensor(card.sensor)
    framework, artifact = _FORMATS[card.weights_name]
    facts = card.model_dump(mode="json", exclude=_STANDARD)
    optical = any(sensor.band(name).wavelength_nm for name in card.bands)
    standard = bool(_SPDX.fullmatch(card.licence))
    if not standard:
        facts["licence"] = card.licence
    world = [-180.0, -90.0, 180.0, 90.0]
    properties: dict[str, Any] = {
        "title": card.title,
        "description": card.description,
        "version": card.version,
        "license": card.licence if standard else OTHER_LICENCE,
        "datetime": None,
        "start_datetime": "2015-06-23T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "mlm:name": card.id,
        "mlm:architecture": card.network.title,
        "mlm:tasks": TASKS[card.task],
        "mlm:framework": framework,
        **({} if card.is_onnx else {"mlm:framework_version": torch.__version__.partition("+")[0]}),
        "mlm:pretrained": True,
        "mlm:accelerator": None,
        "mlm:input": [_input(card)],
        "mlm:output": [_output(card)],
        "bands": [_band(band) for band in map(sensor.band, card.bands)],
        **{f"mmearth:{name}": value for name, value in facts.items() if value is not None},
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            MLM_SCHEMA,
            CLASSIFICATION_SCHEMA,
            *([EO_SCHEMA] if optical else []),  # which wants a field of its own
            FILE_SCHEMA,
        ],
        "id": card.id,
        "geometry": {
            "type": "Polygon",
            "coordinates": [
                [[-180.0, -90.0], [180.0, -90.0], [180.0, 90.0], [-180.0, 90.0], [-180.0, -90.0]]
            ],
        },
        "bbox": world,
        "properties": properties,
        "assets": {
            "model": {
                "href": f"./{card.weights_name}",
                "type": f"application/octet-stream; framework={framework}",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": artifact,
                # STAC wants bands here if the item has any; the item says more of each.
                "bands": [{"name": name} for name in card.bands],
                "file:checksum": f"1220{card.sha256}",
                "file:size": size,
            }
        },
        "links": [],
    }


def _band(band: SensorBand) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": band.name, "description": band.title}
    if band.wavelength_nm is not None and band.width_nm is not None:
        facts["eo:center_wavelength"] = round(band.wavelength_nm / 1000, 4)
        facts["eo:full_width_half_max"] = round(band.width_nm / 1000, 4)
    return facts


def _input(card: ModelCard) -> dict[str, Any]:
    shape = [-1, len(card.bands), card.tile_size, card.tile_size]
    return {
        "name": f"{card.sensor} {card.quantity}",
        "bands": list(card.bands),
        "input": {
            "shape": shape,
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        # None: the network reads reflectance as it is.
        "value_scaling": None if card.normalisation.inside else _value_scaling(card.normalisation),
        "resize_type": None,
        "pre_processing_function": None,
    }


def _value_scaling(norm: Normalisation) -> list[dict[str, Any]]:
    """Return one object a band, as MLM wants; what is more than a z-score is an expression."""
    rows = zip(norm.mean, norm.std, strict=True)
    if norm.function == "identity" and norm.clip is None and norm.bounds is None:
        return [{"type": "z-score", "mean": mean, "stddev": std} for mean, std in rows]
    value = "x" if norm.clip is None else f"numpy.clip(x, {norm.clip[0]:g}, {norm.clip[1]:g})"
    if norm.function == "log1p":
        value = f"numpy.log1p({norm.gain:g} * numpy.maximum({value}, 0))"
    values = [f"({value} - {mean}) / {std}" for mean, std in rows]
    if norm.bounds:
        low, high = norm.bounds
        values = [f"numpy.clip({value}, {low:g}, {high:g})" for value in values]
    return [{"type": "processing", "format": "python", "expression": value} for value in values]


def _output(card: ModelCard) -> dict[str, Any]:
    side = card.tile_size
    name, shape = {
        "segmentation": ("class scores", [card.class_count, side, side]),
        "regression": (card.value.name if card.value else "", [1, side, side]),
        "scene-labels": ("label scores", [card.class_count]),
        "features": ("features", [-1, side // card.stride, side // card.stride]),
    }[card.task]
    output: dict[str, Any] = {
        "name": name,
        "tasks": TASKS[card.task],
        "bands": [],
        "result": {
            "shape": [-1, *shape],
            "dim_order": ["batch", "channel", "height", "width"][: 1 + len(shape)],
            "data_type": "float32",
        },
        "post_processing_function": _activation(card),
    }
    if card.classes:
        output["classification:classes"] = [
            {
                "value": row.value,
                "name": row.name,
                "title": row.title,
                "description": row.title,  # required by version 1, to which MLM refers
                "color_hint": row.color[1:].upper(),
            }
            for row in card.classes
        ]
    return output


def _activation(card: ModelCard) -> dict[str, str] | None:
    """Return how scores become values or probabilities; how those of classes do is plain."""
    if card.task not in ("regression", "scene-labels"):
        return None
    sigmoid = f"torch.sigmoid(x / {card.temperature:g})"
    if card.value:
        low, high = card.value.range
        return {"format": "python", "expression": f"{low:g} + {high - low:g} * {sigmoid}"}
    return {"format": "python", "expression": sigmoid}
