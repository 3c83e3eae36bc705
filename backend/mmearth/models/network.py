"""A network ready to run: card, weights, device and precision."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from mmearth.errors import ModelError, OutOfMemoryError
from mmearth.models.budget import processor_budget
from mmearth.models.card import ModelCard, Normalisation
from mmearth.models.decoders.hypercolumn import Hypercolumn
from mmearth.models.decoders.onnx import OnnxNetwork
from mmearth.models.levels import set_budget
from mmearth.models.registry import build_network
from mmearth.settings import Settings

LARGEST_BATCH = 32
PROBE_SIDE = 64


def choose_device(settings: Settings) -> torch.device:
    """Return the device to compute on.

    Raises:
        ModelError: if the chosen one is not there.
    """
    if settings.device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available[settings.device]:
        raise ModelError(
            f"No {settings.device.upper()} device can be used on this machine.",
            "Choose 'Automatic' or 'Processor' as the device in the settings.",
        )
    return torch.device(settings.device)


@dataclass(frozen=True)
class Workload:
    """What is computed at once.

    Attributes:
        batch_size: tiles in a batch.
        lanes: batches side by side, each in a thread of its own. Processors do more in lanes of one
            core than in one batch over all cores, which wait for each other after every layer.
        threads: cores of a lane.
    """

    batch_size: int
    lanes: int = 1
    threads: int = 1


class LoadedModel:
    """A model loaded on a device, from reflectance to what its module gives.

    Computed in float32 on a CPU, because only the newest are faster in bfloat16; in mixed precision
    (bfloat16) on CUDA.
    """

    def __init__(self, card: ModelCard, settings: Settings) -> None:
        self.card = card
        # onnxruntime is installed for processors only.
        self.device = torch.device("cpu") if card.is_onnx else choose_device(settings)
        torch.set_num_threads(settings.cpu_threads)
        self._module = self.build().eval().to(self.device)
        self._module = self._module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._normalise = Normaliser(card.normalisation).to(self.device)
        self._settings = settings
        self._bytes_per_pixel = self._probe()
        if isinstance(self._module, Hypercolumn):
            set_budget(settings)
            self._module.remembers = True  # the probe above had to see all layers

    def build(self) -> torch.nn.Module:
        """Build the network of the card, with its weights.

        Raises:
            ModelError: if the weights are missing or damaged, or do not fit.
        """
        card = self.card
        card.check_weights()
        module = build_network(card.network, in_channels=len(card.bands), classes=card.output_count)
        load_weights(module, card)
        return module

    def forward(self, images: torch.Tensor, masks: torch.Tensor) -> Any:
        """Send tiles through the module, and return what it gives.

        Args:
            images: (B, C, H, W) float32, reflectance, on this model's device.
            masks: (B, H, W) bool, False where there is no data.
        """
        values = self._normalise(images, masks).contiguous(memory_format=torch.channels_last)
        mixed = self.device.type == "cuda"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=mixed):
            return self._module(values)

    def workload(self, tile: int) -> Workload:
        """Return how much to compute at once, by the memory that is free now.

        Args:
            tile: side of a tile in pixels.
        """
        cores = self._settings.cpu_threads
        if self.device.type == "cuda" and not self._settings.memory_mb:
            budget = int(torch.cuda.mem_get_info(self.device)[0] * 0.8)
        else:
            budget = processor_budget(self._settings)
        fitting = max(1, budget // (self._bytes_per_pixel * tile**2))
        if self.device.type != "cpu":
            return Workload(min(LARGEST_BATCH, fitting), threads=cores)
        # Larger batches gain nothing on a processor, and answer a cancel late.
        lanes = min(cores, fitting)
        return Workload(1, lanes, math.ceil(cores / lanes))

    def _probe(self) -> int:
        """Measure memory per pixel: the sum of all feature maps of a small tile, an upper bound."""
        if isinstance(self._module, OnnxNetwork):
            return self._module.bytes_per_pixel  # its feature maps are out of sight
        total = 0

        def add(_module: torch.nn.Module, _inputs: object, output: object) -> None:
            nonlocal total
            if isinstance(output, torch.Tensor):
                total += output.numel() * output.element_size()

        leaves = [m for m in self._module.modules() if not list(m.children())]
        hooks = [leaf.register_forward_hook(add) for leaf in leaves]
        side = max(PROBE_SIDE, self.card.stride)
        with torch.inference_mode():
            image = torch.zeros(1, len(self.card.bands), side, side, device=self.device)
            self.forward(image, torch.ones(1, side, side, dtype=torch.bool, device=self.device))
        for hook in hooks:
            hook.remove()
        return max(1, total // side**2)


class Network(LoadedModel):
    """A model loaded on a device, from reflectance to what its task is."""

    @torch.inference_mode()
    def probabilities(self, images: NDArray[np.float32], masks: NDArray[np.bool_]) -> torch.Tensor:
        """Compute class probabilities of a batch of tiles.

        Args:
            images: (B, C, H, W) float32, reflectance.
            masks: (B, H, W) bool, False where there is no data.

        Returns:
            (B, K, H, W) float32 on this network's device, sums to 1 over K.

        Raises:
            ModelError: if the model does not map classes.
            OutOfMemoryError: if the device's memory does not suffice.
        """
        self.card.require("segmentation")
        with memory_explained(self.device):
            return torch.softmax(self._tempered(images, masks), dim=1)

    @torch.inference_mode()
    def values(self, images: NDArray[np.float32], masks: NDArray[np.bool_]) -> torch.Tensor:
        """Predict the value of each pixel; arguments and errors as of ``probabilities``.

        Returns:
            (B, 1, H, W) float32 on this network's device, within the range of ``card.value`` and in
            its unit.
        """
        self.card.require("regression")
        low, high = self.card.value.range  # type: ignore[union-attr]
        with memory_explained(self.device):
            shares = torch.sigmoid(self._tempered(images, masks))
            # Rounding may carry the sum beyond an end.
            return (low + (high - low) * shares).clamp(low, high)

    @torch.inference_mode()
    def scene_probabilities(
        self, images: NDArray[np.float32], masks: NDArray[np.bool_]
    ) -> torch.Tensor:
        """Tell what whole images show; arguments and errors as of ``probabilities``.

        Returns:
            (B, K) float32 on this network's device: for each class the probability, from 0 to 1,
            that the image shows it. An image may show several, or none.
        """
        self.card.require("scene-labels")
        with memory_explained(self.device):
            return torch.sigmoid(self._tempered(images, masks))

    def scores(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Compute scores before softmax or sigmoid; arguments as of ``forward``."""
        return self.forward(images, masks)

    def _tempered(self, images: NDArray[np.float32], masks: NDArray[np.bool_]) -> torch.Tensor:
        scores = self.scores(
            torch.from_numpy(images).to(self.device), torch.from_numpy(masks).to(self.device)
        )
        return tempered(scores.float(), self.card.temperature)


def tempered(scores: torch.Tensor, temperature: float | tuple[float, ...]) -> torch.Tensor:
    """Divide scores by a card's temperature: all by one number, or those of each class by its own.

    Shape:
        scores: (B, K, ...) float32, as the network gives them; returns the same.
    """
    if isinstance(temperature, tuple):
        each = torch.tensor(temperature, dtype=scores.dtype, device=scores.device)
        return scores / each.reshape(-1, *[1] * (scores.dim() - 2))
    return scores / temperature


Loaded = TypeVar("Loaded", bound=LoadedModel)
_loaded: dict[tuple[object, ...], LoadedModel] = {}


def loaded(kind: type[Loaded], card: ModelCard, settings: Settings, *options: int | None) -> Loaded:
    """Load a model, or take the one that is loaded; only one is kept.

    Args:
        kind: class.
        card: of the model.
        settings: settings of the backend.
        *options: further arguments of the class.

    Raises:
        ModelError: if it is damaged, or cannot be used in this way.
    """
    key = kind, card.card_sha256, *options
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = kind(card, settings, *options)
    model = _loaded[key]
    if not isinstance(model, kind):
        raise TypeError(f"Expected {kind.__name__}, found {type(model).__name__}.")
    return model


class Normaliser(torch.nn.Module):
    """From reflectance to the network's input; no-data becomes 0, the mean, afterwards."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: Normalisation) -> None:
        super().__init__()
        self._inside = config.inside
        self._log = config.function == "log1p"
        self._gain = config.gain
        self._clip = config.clip
        self._bounds = config.bounds
        self.register_buffer("mean", torch.tensor(config.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(config.std)[:, None, None])

    def forward(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Normalise. images: (B, C, H, W) reflectance; masks: (B, H, W) bool."""
        if self._inside:
            return images.masked_fill(~masks[:, None], math.nan)
        if self._clip:
            images = images.clamp(*self._clip)
        if self._log:
            images = torch.log1p(images.clamp_min(0) * self._gain)
        values = (images - self.mean) / self.std
        if self._bounds:
            values = values.clamp(*self._bounds)
        return values * masks[:, None]


def load_weights(module: torch.nn.Module, card: ModelCard) -> None:
    """Load a model's weights, refusing any key that is missing or too many.

    Weights may be stored in half precision; they are computed with in float32.

    Raises:
        ModelError: if the file does not fit the network.
        MissingExtraError: if it is an ONNX file and nothing is installed to run it.
    """
    if isinstance(module, OnnxNetwork):
        module.load(card.weights)
        return
    try:
        state = load_file(card.weights)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"The weights of {card.title} cannot be read: {error}.", "Install the model again."
        ) from error
    expected = module.state_dict()
    problems = [f"lacks {name}" for name in expected if name not in state]
    problems += [f"has {name} too many" for name in state if name not in expected]
    problems += [
        f"has {tuple(state[name].shape)} for {name}, expected {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    if problems:
        raise ModelError(
            f"The weights of {card.title} do not fit its network: the file {problems[0]}"
            + (f", and {len(problems) - 1} more." if len(problems) > 1 else "."),
            "Install the model again.",
        )
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})


@contextlib.contextmanager
def memory_explained(device: torch.device) -> Iterator[None]:
    """Turn a want of memory into words.

    Raises:
        OutOfMemoryError: if the device's memory does not suffice.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(device) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise _out_of_memory(device) from error
        raise


def _out_of_memory(device: torch.device) -> OutOfMemoryError:
    kind = "the graphics card" if device.type == "cuda" else "this machine"
    return OutOfMemoryError(
        f"The memory of {kind} does not suffice for this job.",
        "Close other programs, or set a lower memory limit in the settings.",
    )
