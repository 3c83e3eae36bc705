"""Writing a model as an ONNX file that deepness can use, and that can be imported again."""

from __future__ import annotations

import contextlib
import io
import os
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmearth.errors import DiskFullError, ModelError, OutputError, is_disk_full
from mmearth.models.card import CARD_NAME, ModelCard
from mmearth.models.network import Normaliser, load_weights, tempered
from mmearth.models.onnx.deepness import CARD_KEY, write_metadata
from mmearth.models.onnx.runtime import open_session, reason, require_onnx
from mmearth.models.registry import build_network
from mmearth.sensors import load_sensor

if TYPE_CHECKING:
    from onnx import ModelProto

# The newest that the onnxruntime of deepness (1.17) reads for certain, with its format 8.
OPSET = 17
INPUT, OUTPUT = "reflectance", "probabilities"
RELATIVE, ABSOLUTE = 1e-3, 1e-5  # how far onnxruntime's probabilities may be from torch's


class WholeModel(nn.Module):
    """From reflectance to class probabilities; what the file computes.

    Empty is a pixel that is NaN in any band, or whose bands all hold the sensor's value for no
    data; deepness hands it over as it is, and fills the rims of a raster with zeros.

    Shape:
        (B, C, T, T) float32, reflectance, to (B, K, T, T) float32, sums to 1 over K.
    """

    def __init__(self, card: ModelCard, network: nn.Module) -> None:
        super().__init__()
        sensor = load_sensor(card.sensor)
        self._normalise = Normaliser(card.normalisation)
        self._network = network
        self._temperature = card.temperature
        self._empty = None
        if sensor.nodata is not None:
            self._empty = sensor.nodata * sensor.scale + sensor.offset
            self._tolerance = sensor.scale / 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return probabilities."""
        masks = ~torch.isnan(images).any(dim=1)
        if self._empty is not None:
            masks = masks & ((images - self._empty).abs() > self._tolerance).any(dim=1)
        images = torch.where(masks[:, None], images, torch.zeros_like(images))
        scores = self._network(self._normalise(images, masks))
        return torch.softmax(tempered(scores, self._temperature), dim=1)


def pack(card: ModelCard, target: Path, tick: Callable[[int], None]) -> None:
    """Write a model as an ONNX file; errors as of ``export_onnx``."""
    export_onnx(card, target)
    tick(target.stat().st_size)


def export_onnx(card: ModelCard, target: Path) -> None:
    """Write a model as an ONNX file, whole or not at all.

    The file reads reflectance as (batch, bands, tile, tile) float32, its normalisation inside, and
    gives the probabilities of the classes. Its metadata turn the stored numbers of the sensor into
    reflectance when deepness reads them; see ``deepness.write_metadata`` for what that plugin
    cannot know. It is computed once here, and compared with the model.

    deepness maps the likeliest class: of products, it does not know. An encoder is refused, since
    it has no classes to map.

    Args:
        card: of an installed model. One that came from an ONNX file is written as it came, its
            card added.
        target: the file, with the ending ``.onnx``; replaced if it exists.

    Raises:
        ModelError: if the model maps nothing, is damaged, or cannot be written as ONNX.
        MissingExtraError: if what writes ONNX files is not installed.
        OutputError: if the file cannot be written.
    """
    require_onnx()
    card.product(None)  # says so if the model maps nothing
    card.check_weights()
    if target.suffix.lower() != ".onnx":
        raise OutputError(f"Expected a name that ends with .onnx, found {target}.", "Rename it.")
    if not target.parent.is_dir():
        raise OutputError(
            f"The folder {target.parent} does not exist.", "Create it or choose another."
        )
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}.onnx")
    # The card as it stands in the folder, so that nothing of it is lost.
    metadata = {CARD_KEY: (card.folder / CARD_NAME).read_text("utf-8")}
    try:
        if card.is_onnx:
            _annotate(card.weights, temporary, metadata)
        else:
            network = build_network(
                card.network, in_channels=len(card.bands), classes=card.class_count
            )
            load_weights(network, card)
            whole = WholeModel(card, network).eval()
            images = _tiles(card)
            with torch.inference_mode():
                expected = whole(images).numpy()
            _fix_size(network, card.tile_size)
            _write(whole, card, temporary)
            _annotate(temporary, temporary, {**write_metadata(card), **metadata}, card)
            _compare(card, temporary, images.numpy(), expected)
        os.replace(temporary, target)
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(
                f"The disk is full: {target} could not be written.",
                "Free some space, or choose a folder on another disk.",
            ) from error
        raise OutputError(
            f"{target} could not be written: {error}.", "Choose another folder."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _fix_size(network: nn.Module, side: int) -> None:
    """Interpolate position embeddings once and for all: ONNX lacks what does it for any size."""
    with torch.no_grad():
        for part in network.modules():
            if hasattr(part, "set_input_size"):  # timm's transformers
                part.set_input_size(img_size=(side, side))  # type: ignore[operator]


def _write(whole: WholeModel, card: ModelCard, path: Path) -> None:
    image = torch.rand(1, len(card.bands), card.tile_size, card.tile_size)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            torch.no_grad(),
        ):
            # The exporter that needs no further package announces its successor, and prints the
            # whole network when it fails.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                whole,
                (image,),
                str(path),
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            )
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{card.title} cannot be written as ONNX: {reason(error)}.",
            "Its network has a part that ONNX lacks.",
        ) from error


def _annotate(
    source: Path, target: Path, metadata: Mapping[str, str], card: ModelCard | None = None
) -> None:
    """Put metadata into a file, and, given a card, the shapes that it stands for."""
    import onnx

    model = onnx.load(source, load_external_data=False)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**kept, **metadata})
    if card:
        _state_shape(model, card)
    target.write_bytes(model.SerializeToString())


def _state_shape(model: ModelProto, card: ModelCard) -> None:
    """Say the output's shape in numbers: the exporter has made up names for some of it."""
    (output,) = model.graph.output
    shape = ("batch", card.class_count, card.tile_size, card.tile_size)
    for dimension, size in zip(output.type.tensor_type.shape.dim, shape, strict=True):
        if isinstance(size, int):
            dimension.dim_value = size
        else:
            dimension.dim_param = size


def _tiles(card: ModelCard) -> torch.Tensor:
    """Return a batch of random tiles, a corner of one empty."""
    side = card.tile_size
    random = torch.Generator().manual_seed(0)
    images = torch.rand(2, len(card.bands), side, side, generator=random)
    images[1, :, : side // 3, : side // 3] = torch.nan
    return images


def _compare(
    card: ModelCard, path: Path, images: NDArray[np.float32], expected: NDArray[np.float32]
) -> None:
    (found,) = open_session(path).run([OUTPUT], {INPUT: images})
    if not np.allclose(found, expected, rtol=RELATIVE, atol=ABSOLUTE):
        raise ModelError(
            f"The ONNX file of {card.title} computes otherwise than the model: probabilities "
            f"differ by up to {np.abs(found - expected).max():.3g}.",
            "Report it as a mistake of MMEarth, with the name of the model.",
        )
