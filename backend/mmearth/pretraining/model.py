"""The model folder that comes of pretraining: an encoder alone, for every other job to build on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from mmearth import __version__
from mmearth.api import PretrainSpec
from mmearth.errors import listed
from mmearth.models.card import ModelCard, NetworkConfig
from mmearth.models.cost import multiply_adds_per_pixel
from mmearth.models.registry import build_network
from mmearth.models.save import save_model
from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.method import Pretext
from mmearth.pretraining.modality import Modality
from mmearth.pretraining.record import Recipe, Row
from mmearth.sensors import load_sensor

TILE = 256


def save_encoder(
    folder: Path,
    pretext: Pretext,
    data: Dataset,
    spec: PretrainSpec,
    recipe: Recipe,
    rows: list[Row],
) -> ModelCard:
    """Write the encoder of a pretext method as a model folder.

    Args:
        folder: its name is the model's, unless the request gives it one.
        pretext: trained.
        data: what it learned from.
        spec: the request.
        recipe: numbers of the run.
        rows: log of the run.
    """
    plain = NetworkConfig(decoder="features", encoder=spec.encoder, multiply_adds_per_pixel=1)
    network = build_network(plain, in_channels=len(data.bands), classes=0).eval()
    state = {name: value.cpu() for name, value in pretext.encoder.state_dict().items()}
    network.encoder.load_state_dict(state)  # type: ignore[union-attr]
    cost = multiply_adds_per_pixel(network, len(data.bands), max(64, 2 * _stride(network)))
    return save_model(
        folder,
        network.state_dict(),
        {
            "id": spec.id or folder.name,
            "version": "1.0.0",
            "title": spec.title or f"{spec.encoder} pretrained by {spec.method}",
            "description": f"An encoder, {spec.encoder}, that learned "
            f"{_learned_from(len(data), pretext.modalities)}: it "
            "maps nothing by itself, but learns from few labels.",
            "task": "features",
            "licence": spec.licence or "not stated",
            "attribution": data.attribution,
            "limits": (
                "It was shown no other places, seasons and processing levels than those of its "
                "images.",
            ),
            "sensor": data.sensor,
            "levels": data.levels,
            "quantity": load_sensor(data.sensor).quantity,
            "bands": data.bands,
            "normalisation": data.normalisation,
            "resolution_m": data.resolution_m,
            "tile_size": TILE,
            "stride": _stride(network),
            "temperature": 1.0,
            "network": plain.model_copy(update={"multiply_adds_per_pixel": max(1.0, cost)}),
            "training": _provenance(pretext, data, spec, recipe, rows),
        },
        half=False,  # it is trained further
    )


def _learned_from(images: int, modalities: Sequence[Modality]) -> str:
    """Say what an encoder has learned from; only where no map is among it, without labels."""
    names = [one.name for one in modalities[1:]]
    told = f"from {images:,} images"
    if names:
        told += f", and to tell {listed(names)} of them"
    maps = any(one.kind == "categorical" for one in modalities)
    return told if maps else f"{told}, without labels"


def _stride(network: torch.nn.Module) -> int:
    return int(network.encoder.output_stride)  # type: ignore[union-attr,arg-type]


def _provenance(
    pretext: Pretext, data: Dataset, spec: PretrainSpec, recipe: Recipe, rows: list[Row]
) -> dict[str, Any]:
    """Return everything that is needed to train the same encoder again."""
    return {
        "method": spec.method,
        **pretext.facts(),
        "modalities": ", ".join(one.name for one in pretext.modalities),
        "data": Path(spec.data).name,
        "split": data.split,
        "tiles": len(data),
        "crop": spec.crop,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "learning rate": recipe.learning_rate,
        **pretext.optimisation.facts(),
        "seed": recipe.seed,
        "losses": _values(rows[-1].losses),
        **({"losses held back": _values(rows[-1].held)} if rows[-1].held else {}),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "software": f"mmearth {__version__}, torch {torch.__version__.partition('+')[0]}",
    }


def _values(losses: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
