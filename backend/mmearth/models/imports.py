"""From a published file of weights to a model folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from safetensors.torch import load_file

from mmearth.errors import ModelError
from mmearth.models.card import ModelCard, NetworkConfig, file_sha256
from mmearth.models.cost import multiply_adds_per_pixel
from mmearth.models.published import PublishedModel
from mmearth.models.registry import build_network
from mmearth.models.save import save_model
from mmearth.models.weights.checkpoint import convert
from mmearth.sensors import load_sensor

VERSION = "1.0.0"


def import_published(
    model: PublishedModel, source: Path, folder: Path, level: str | None = None
) -> ModelCard:
    """Make a model folder of a published encoder's file.

    It holds the encoder alone: what it is trained to map comes later.

    Args:
        model: what the file is.
        source: the file, as published.
        folder: where installed models are; the model gets a folder of its own there.
        level: processing level whose statistics normalise the input; default: the first.

    Raises:
        ModelError: if the file is not that model, or is damaged, or holds code.
    """
    level = level or model.levels[0]
    normalisation = model.normalisation(level)
    if not source.is_file():
        raise ModelError(f"The file {source} does not exist.", "Choose the file of the weights.")
    if model.sha256 and not file_sha256(source).startswith(model.sha256):
        raise ModelError(
            f"{source.name} is not {model.title} as published: expected a SHA-256 that begins with "
            f"{model.sha256}, found {file_sha256(source)[:12]}….",
            "The download is incomplete, or it is another file: obtain it again.",
        )
    bands = len(model.bands)
    with tempfile.TemporaryDirectory() as scratch:
        converted = Path(scratch) / "encoder.safetensors"
        convert(source, model.encoder, bands, converted)
        state = {f"encoder.{key}": value for key, value in load_file(converted).items()}
    plain = NetworkConfig(decoder="features", encoder=model.encoder, multiply_adds_per_pixel=1)
    network = build_network(plain, in_channels=bands, classes=0).eval()
    stride = int(network.encoder.output_stride)  # type: ignore[union-attr,arg-type]
    cost = multiply_adds_per_pixel(network, bands)
    several = len(model.levels) > 1  # statistics differ by level, and a card has one of them
    identifier = f"{model.id}-{level.lower()}" if several else model.id
    return save_model(
        folder / identifier,
        state,
        {
            "id": identifier,
            "version": VERSION,
            "title": f"{model.title} ({level})" if several else model.title,
            "description": f"A pretrained encoder, {model.encoder}: it maps nothing by itself, but "
            "learns from few labels.",
            "task": "features",
            "licence": model.licence,
            "attribution": model.attribution,
            "limits": (model.licence_words,),
            "sensor": model.sensor,
            "levels": (level,),
            "quantity": load_sensor(model.sensor).quantity,
            "bands": model.bands,
            "normalisation": normalisation,
            "resolution_m": model.resolution_m,
            "tile_size": 256,
            "stride": stride,
            "temperature": 1.0,
            "network": plain.model_copy(update={"multiply_adds_per_pixel": cost}),
            "training": {"source": model.url or model.page, "sha256": file_sha256(source)},
        },
        half=False,  # a published file is kept as it is
    )
