"""From a published file of weights to a model folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from mmearth.api import InstallSpec
from mmearth.errors import ModelError, WeightsError, listed
from mmearth.models.card import ModelCard, NetworkConfig, file_sha256
from mmearth.models.registry import build_network
from mmearth.models.store.published import VERSION, PublishedModel, find_published, published_models
from mmearth.models.store.source import Found
from mmearth.sensors import load_sensor
from mmearth.settings import Settings

# Of a request, beside its source: what has to be said of such a file.
FIELDS = frozenset({"level"})


def inspect(source: Path, spec: InstallSpec, settings: Settings) -> Found:
    """Say what a file of weights will become.

    Raises:
        ModelError: if it is not known which published encoder it is, or not for that level.
    """
    model = _published(source, spec, settings)
    level = spec.level or model.levels[0]
    model.normalisation(level)
    # The converted weights and the model's are there at once for a while.
    return Found(model.identifier(level), VERSION, 2 * source.stat().st_size)


def make_model(
    source: Path,
    spec: InstallSpec,
    folder: Path,
    settings: Settings,
    tick: Callable[[int], None],
) -> ModelCard:
    """Make a model folder of a file of weights, within a folder.

    Raises:
        ModelError: as ``import_published`` does, or if it is not known what the file is.
    """
    card = import_published(_published(source, spec, settings), source, folder, spec.level)
    tick(card.weights.stat().st_size)
    return card


def recognise(source: Path, file: Path) -> PublishedModel:
    """Find which published encoder a file is, by its name or its hash.

    Args:
        source: the file.
        file: list of the published encoders.

    Raises:
        ModelError: if that is not certain.
    """
    models = published_models(file)
    found = [model for model in models if model.file_name == source.name]
    if len(found) != 1:  # several have one name; hashing a large file takes seconds
        digest = file_sha256(source)
        hashed = [model for model in models if model.sha256 and digest.startswith(model.sha256)]
        found = hashed or found
    if len(found) == 1:
        return found[0]
    names = listed((model.id for model in found or models), limit=50)
    raise ModelError(
        f"{source.name} may be any of several published encoders."
        if found
        else f"{source.name} is not known by its name or its SHA-256.",
        f"Say which published encoder it is: {names}.",
    )


def _published(source: Path, spec: InstallSpec, settings: Settings) -> PublishedModel:
    if spec.published:
        return find_published(spec.published, settings.published)
    return recognise(source, settings.published)


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
        WeightsError: if the file is not that model, or is damaged, or holds code.
        ModelError: if the model was not trained on that level.
        OutputError: if the folder cannot be written to.
    """
    # Imported here, because they take seconds, and finding out what a file is has no need of them.
    from safetensors.torch import load_file

    from mmearth.models.cost import multiply_adds_per_pixel
    from mmearth.models.save import save_model
    from mmearth.models.weights.checkpoint import convert

    level = level or model.levels[0]
    normalisation = model.normalisation(level)
    if not source.is_file():
        raise ModelError(f"The file {source} does not exist.", "Choose the file of the weights.")
    if model.sha256 and not file_sha256(source).startswith(model.sha256):
        raise WeightsError(
            f"{source.name} is not {model.title} as published: expected a SHA-256 that begins with "
            f"{model.sha256[:12]}, found {file_sha256(source)[:12]}….",
            "It is another file, or not whole: choose the right one, or obtain it again.",
        )
    bands = len(model.bands)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:  # a disk that was looked at
        converted = Path(scratch) / "encoder.safetensors"
        convert(source, model.encoder, bands, converted)
        state = {f"encoder.{key}": value for key, value in load_file(converted).items()}
    plain = NetworkConfig(decoder="features", encoder=model.encoder, multiply_adds_per_pixel=1)
    network = build_network(plain, in_channels=bands, classes=0).eval()
    stride = int(network.encoder.output_stride)  # type: ignore[union-attr,arg-type]
    cost = multiply_adds_per_pixel(network, bands)
    identifier = model.identifier(level)
    return save_model(
        folder / identifier,
        state,
        {
            "id": identifier,
            "version": VERSION,
            "title": f"{model.title} ({level})" if len(model.levels) > 1 else model.title,
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
