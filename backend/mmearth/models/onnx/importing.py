"""From an ONNX file to a model folder."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmearth.api import InstallSpec
from mmearth.errors import ModelError, listed
from mmearth.models.card import ModelCard, NetworkConfig, file_sha256, parse_card
from mmearth.models.onnx.check import (
    LARGEST_TILE,
    SMALLEST_TILE,
    Behaviour,
    Facts,
    look_at,
    refuse_large,
    try_out,
)
from mmearth.models.onnx.deepness import (
    CARD_KEY,
    class_rows,
    normalisation,
    product,
    read_metadata,
)
from mmearth.models.onnx.runtime import require_onnx
from mmearth.models.store.source import Found
from mmearth.sensors import load_sensor
from mmearth.settings import Settings

VERSION = "1.0.0"
DECODER = "onnx"
LARGEST_STRIDE = 32  # of usual networks; tiles start at multiples of it

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


# Of a request, beside its source: what has to be said of such a file.
FIELDS = frozenset({"sensor", "bands", "resolution_m"})


def inspect(source: Path, spec: InstallSpec, settings: Settings) -> Found:
    """Say what an ONNX file will become; it is looked at, but not run.

    Raises:
        ModelError: if it is none that can be imported.
        MissingExtraError: if what reads ONNX files is not installed.
    """
    require_onnx()
    found = look_at(source)
    if CARD_KEY in found.metadata:
        card = parse_card(found.metadata[CARD_KEY], source.with_suffix(""))
        return Found(card.id, card.version, source.stat().st_size)
    return Found(_identifier(source), VERSION, source.stat().st_size)


def make_model(
    source: Path,
    spec: InstallSpec,
    folder: Path,
    settings: Settings,
    tick: Callable[[int], None],
) -> ModelCard:
    """Make a model folder of an ONNX file, within a folder; errors as of ``import_onnx``."""
    card = import_onnx(
        source, folder, sensor=spec.sensor, bands=spec.bands, resolution_m=spec.resolution_m
    )
    tick(card.weights.stat().st_size)
    return card


def import_onnx(
    source: Path,
    folder: Path,
    *,
    sensor: str | None = None,
    bands: Sequence[str] = (),
    resolution_m: float | None = None,
    model_id: str | None = None,
    title: str | None = None,
    licence: str = "other",
    attribution: str = "",
) -> ModelCard:
    """Make a model folder of an ONNX file.

    A file that ``export_onnx`` wrote holds its card and needs no further arguments. Of another, its
    metadata must be those of deepness, for segmentation; what they do not say is told here.
    onnxruntime computes the model, on the processor whatever device is chosen.

    Args:
        source: the file. It is looked at, and tried out, in a process of its own.
        folder: where installed models are; the model gets a folder of its own there.
        sensor: identifier of the sensor that it was trained on. deepness's models read pictures of
            8 bits: ``aerial-rgb``.
        bands: names of the sensor's bands, in the order of the network.
        resolution_m: pixel size on the ground in metres, where the file does not say.
        model_id: identifier, default: that of the card in the file, or made from the file's name.
        title: default: the file's name.
        licence: SPDX identifier.
        attribution: whom to name; default: the file.

    Returns:
        The card as read back.

    Raises:
        ModelError: if the file is not such a model, is damaged or made to do harm, does not fit
            what is told of it, or if a model of that identifier is in the folder already.
        MissingExtraError: if what reads ONNX files is not installed.
    """
    from mmearth.models.save import save_model  # takes seconds: not for whoever only plans

    require_onnx()
    if not source.is_file():
        raise ModelError(f"The file {source} does not exist.", "Choose an ONNX file.")
    with tempfile.TemporaryDirectory() as scratch:
        refuse_large(source)
        # What was looked at is what is kept, even if someone changes the file meanwhile.
        copy = Path(scratch) / source.name
        shutil.copyfile(source, copy)
        found = look_at(copy)
        if CARD_KEY in found.metadata:
            facts = _from_card(copy, found)
        else:
            told = {"title": title, "licence": licence, "attribution": attribution}
            facts = _from_deepness(copy, found, sensor, bands, resolution_m, told)
        identifier = model_id or facts["id"]
        if not _IDENTIFIER.fullmatch(identifier):
            raise ModelError(
                f"{identifier!r} cannot name a model.",
                "Use letters, digits, hyphens and dots.",
            )
        if (folder / identifier).exists():
            raise ModelError(
                f"A model {identifier} is installed already.",
                "Remove it first, or give this one another identifier.",
            )
        try:
            return save_model(folder / identifier, copy, {**facts, "id": identifier})
        except UnicodeEncodeError as error:
            raise ModelError(
                f"The card in {source.name} holds half of a character, which cannot be written.",
                "Obtain the file again.",
            ) from error


def _from_card(copy: Path, found: Facts) -> dict[str, Any]:
    """Return the card that a file holds; the network is now the file itself."""
    card = parse_card(found.metadata[CARD_KEY], copy.with_suffix(""))
    if (found.bands, found.tile or card.tile_size) != (len(card.bands), card.tile_size):
        raise ModelError(
            f"{copy.name} reads {found.bands} bands in tiles of {found.tile} pixels, but its card "
            f"speaks of {len(card.bands)} bands in tiles of {card.tile_size}.",
            "Obtain the file again.",
        )
    _check_tile(copy, card.tile_size, card.stride)
    norm = card.normalisation
    ours = not card.is_onnx  # else it was imported before, and exported as it came
    if ours:
        norm = norm.model_copy(update={"inside": True})
    outside = not norm.inside
    shift, factor = (norm.mean, norm.std) if outside else ((), ())
    behaviour = try_out(copy, card.tile_size, shift, factor)
    if behaviour.classes != card.class_count:
        raise ModelError(
            f"{copy.name} tells {behaviour.classes} classes apart, but its card names "
            f"{card.class_count}.",
            "Obtain the file again.",
        )
    facts = card.model_dump(exclude={"sha256", "weights_name", "folder"})
    threshold = card.network.options.get("threshold", 0.0)  # of a file that was imported before
    network = _network(card.network.encoder, behaviour, threshold)
    if ours:
        network = network.model_copy(
            update={"multiply_adds_per_pixel": card.network.multiply_adds_per_pixel}
        )
        facts["temperature"] = 1.0  # it is inside as well
    return {**facts, "normalisation": norm, "network": network}


def _from_deepness(
    copy: Path,
    found: Facts,
    sensor_id: str | None,
    bands: Sequence[str],
    resolution_m: float | None,
    told: Mapping[str, str | None],
) -> dict[str, Any]:
    """Return a card from deepness's metadata and what is told."""
    says = read_metadata(found.metadata, copy.name)
    if sensor_id is None or not bands:
        raise ModelError(
            f"{copy.name} does not say which sensor and bands it reads.",
            f"Name the sensor, and {found.bands} of its bands in the order of the network.",
        )
    sensor = load_sensor(sensor_id)
    names = [sensor.band(name).name for name in bands]
    if len(names) != found.bands:
        raise ModelError(
            f"{copy.name} reads {found.bands} bands, but {len(names)} are named: {listed(names)}.",
            f"Name {found.bands} bands in the order of the network.",
        )
    resolution = says.resolution_m or resolution_m
    if not resolution or not 0 < resolution < math.inf:
        raise ModelError(
            f"{copy.name} does not say which pixel size it was trained on.",
            "Give the size of a pixel on the ground in metres.",
        )
    tile = found.tile or says.tile_size
    # Half a tile at most, so that two tiles may overlap.
    stride = min(math.gcd(tile, LARGEST_STRIDE), max(1, tile // 2))
    _check_tile(copy, tile, stride)
    norm = normalisation(says, sensor, found.bands)
    behaviour = try_out(copy, tile, says.mean, says.std)
    classes = class_rows(says, behaviour.classes, copy.name)
    limits = ["It is computed on the processor, whatever device is chosen."]
    if behaviour.output == "scores":
        limits.append("Its outputs are no probabilities; they were made such by softmax.")
    if behaviour.output == "independent":
        limits.append(
            "Its outputs lie between 0 and 1 but do not sum to 1: each was taken for the "
            f"probability of one class, whatever the others are. {classes[0].title} is mapped "
            f"where none reaches {says.threshold:g}. Confidence is a class's share of the sum."
        )
    name = copy.stem
    return {
        "id": _identifier(copy),
        "version": VERSION,
        "title": told["title"] or name,
        "description": f"Imported from {copy.name}, a model made for deepness.",
        "licence": told["licence"],
        "attribution": told["attribution"] or f"The authors of {copy.name}.",
        "limits": tuple(limits),
        "sensor": sensor.id,
        "levels": (),
        "quantity": sensor.quantity,
        "bands": tuple(names),
        "normalisation": norm,
        "resolution_m": resolution,
        "tile_size": tile,
        "stride": stride,
        "overlap": math.ceil(says.overlap * tile),
        "temperature": 1.0,
        "network": _network("", behaviour, says.threshold),
        "classes": classes,
        "products": (product(says, classes, behaviour.output),),
        "training": {"source": copy.name, "sha256": file_sha256(copy)},
    }


def _check_tile(copy: Path, tile: int, stride: int) -> None:
    """Refuse tiles that no scene is cut into: two that overlap start a stride apart."""
    smallest = max(SMALLEST_TILE, 2 * stride)
    if not smallest <= tile <= LARGEST_TILE:
        raise ModelError(
            f"The metadata of {copy.name} speak of tiles of {tile:g} pixels; expected {smallest} "
            f"to {LARGEST_TILE}.",
            "Correct the size of tiles in the metadata of the ONNX file.",
        )


def _identifier(source: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", source.stem.lower()).strip("-")[:60] or "onnx-model"


def _network(encoder: str, behaviour: Behaviour, threshold: float) -> NetworkConfig:
    options: dict[str, Any] = {
        "output": behaviour.output,
        "bytes_per_pixel": behaviour.bytes_per_pixel,
    }
    if behaviour.output == "independent":
        options["threshold"] = threshold
    return NetworkConfig(
        decoder=DECODER,
        encoder=encoder,
        options=options,
        multiply_adds_per_pixel=behaviour.multiply_adds_per_pixel,
    )
