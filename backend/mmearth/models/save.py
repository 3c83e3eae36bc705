"""Writing a model folder: weights, card, and the same in words."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mmearth.models.card import (
    CARD_NAME,
    ONNX_NAME,
    WEIGHTS_NAME,
    ModelCard,
    file_sha256,
    read_card,
)
from mmearth.models.readme import README_NAME, describe
from mmearth.sensors import load_sensor

MLM_SCHEMA = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
CLASSIFICATION_SCHEMA = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
EO_SCHEMA = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"
FILE_SCHEMA = "https://stac-extensions.github.io/file/v2.1.0/schema.json"

# What MLM has a field for; everything else of a card goes under ``mmearth:``.
_STANDARD = {
    "id", "version", "title", "description", "licence", "bands", "tile_size", "classes", "sha256",
    "weights_name", "folder",
}  # fmt: skip

# Framework and type of artifact, by the name of the weight file.
_FORMATS = {
    WEIGHTS_NAME: ("pytorch", "safetensors.torch.save_file"),
    ONNX_NAME: ("onnx", "onnx"),
}


def save_model(
    folder: Path,
    state: Mapping[str, torch.Tensor] | Path,
    facts: Mapping[str, Any],
    *,
    half: bool = True,
) -> ModelCard:
    """Write a model folder, whole or not at all.

    Weights are stored in half precision, unless told otherwise: half the download, and a rounding
    far below that of the percent values of a map.

    Args:
        folder: where to; replaced if it exists.
        state: weights of the network, or an ONNX file, which is copied as it is.
        facts: fields of ``ModelCard`` except ``sha256``, ``weights_name`` and ``folder``.
        half: whether weights are rounded to half precision.

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
        (temporary / README_NAME).write_text(describe(card), "utf-8")
        for kept in folder.glob("*"):
            if not (temporary / kept.name).exists():
                shutil.copy2(kept, temporary)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return read_card(folder)


def _stored(tensor: torch.Tensor, half: bool) -> torch.Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if half and tensor.is_floating_point() else tensor


def stac_item(card: ModelCard, size: int) -> dict[str, Any]:
    """Return a card as a STAC item with the MLM extension (version 1.5.2)."""
    sensor = load_sensor(card.sensor)
    framework, artifact = _FORMATS[card.weights_name]
    facts = card.model_dump(mode="json", exclude=_STANDARD)
    world = [-180.0, -90.0, 180.0, 90.0]
    properties: dict[str, Any] = {
        "title": card.title,
        "description": card.description,
        "version": card.version,
        "license": card.licence,
        "datetime": None,
        "start_datetime": "2015-06-23T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "mlm:name": card.id,
        "mlm:architecture": f"{card.network.decoder} on {card.network.encoder}",
        "mlm:tasks": [_task(card)],
        "mlm:framework": framework,
        **({} if card.is_onnx else {"mlm:framework_version": torch.__version__.partition("+")[0]}),
        "mlm:pretrained": True,
        "mlm:accelerator": None,
        "mlm:input": [_input(card)],
        "mlm:output": [_output(card)],
        "bands": [
            {
                "name": band.name,
                "description": band.title,
                "eo:center_wavelength": round(band.wavelength_nm / 1000, 4),
                "eo:full_width_half_max": round(band.width_nm / 1000, 4),
            }
            for band in map(sensor.band, card.bands)
        ],
        **{f"mmearth:{name}": value for name, value in facts.items()},
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM_SCHEMA, CLASSIFICATION_SCHEMA, EO_SCHEMA, FILE_SCHEMA],
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
                "file:checksum": f"1220{card.sha256}",
                "file:size": size,
            }
        },
        "links": [],
    }


def _input(card: ModelCard) -> dict[str, Any]:
    norm = card.normalisation
    shape = [-1, len(card.bands), card.tile_size, card.tile_size]
    logarithm = {
        "type": "processing",
        "format": "python",
        "expression": f"numpy.log1p({norm.gain:g} * x)",
    }
    z_scores = [
        {"type": "z-score", "mean": mean, "stddev": std}
        for mean, std in zip(norm.mean, norm.std, strict=True)
    ]
    return {
        "name": f"{card.sensor} {card.quantity}",
        "bands": list(card.bands),
        "input": {
            "shape": shape,
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [logarithm, *z_scores] if norm.function == "log1p" else z_scores,
        "resize_type": None,
        "pre_processing_function": None,
    }


def _task(card: ModelCard) -> str:
    return "semantic-segmentation" if card.classes else "feature-extraction"


def _output(card: ModelCard) -> dict[str, Any]:
    if not card.classes:
        side = card.tile_size // card.stride
        return {
            "name": "features",
            "tasks": [_task(card)],
            "bands": [],
            "result": {
                "shape": [-1, -1, side, side],
                "dim_order": ["batch", "channel", "height", "width"],
                "data_type": "float32",
            },
            "post_processing_function": None,
        }
    return {
        "name": "class scores",
        "tasks": [_task(card)],
        "bands": [],
        "result": {
            "shape": [-1, card.class_count, card.tile_size, card.tile_size],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": [
            {
                "value": row.value,
                "name": row.name,
                "title": row.title,
                "color_hint": row.color[1:].upper(),
            }
            for row in card.classes
        ],
        "post_processing_function": None,
    }
