"""A network from an ONNX file: onnxruntime computes it, on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import nn

from mmearth.errors import ModelError
from mmearth.models.card import NetworkConfig
from mmearth.models.onnx.runtime import open_session, reason

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Output = Literal["probabilities", "independent", "presence", "scores"]


class OnnxNetwork(nn.Module):
    """(B, C, T, T) float32 to class scores (B, classes, T, T) float32, T the side of the tile.

    Of what is a probability already, the score is the logarithm: softmax gives it back.

    Attributes:
        output: what the file gives: ``probabilities`` of the classes that sum to 1,
            ``independent`` ones that do not, the ``presence`` of the second of two as (B, 1, T, T)
            or (B, T, T), or ``scores`` before softmax.
        bytes_per_pixel: of the feature maps.
        threshold: least probability of a class, from 0 to 1, of ``independent`` ones.
    """

    def __init__(self, output: Output, bytes_per_pixel: int, threshold: float = 0.0) -> None:
        super().__init__()
        if output not in get_args(Output):
            raise ValueError(f"unknown kind of output {output!r}")
        self.output = output
        self.threshold = float(threshold)
        self.bytes_per_pixel = max(1, int(bytes_per_pixel))
        self._session: InferenceSession | None = None

    def load(self, path: Path) -> None:
        """Load the file.

        Raises:
            MissingExtraError: if onnxruntime is not installed.
            ModelError: if it cannot be run.
        """
        self._session = open_session(path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores."""
        found = torch.cat([self._run(image[None]) for image in x])
        return as_scores(found, self.output, self.threshold)

    def _run(self, image: torch.Tensor) -> torch.Tensor:
        if self._session is None:
            raise ModelError("The network has no ONNX file.", "Install the model again.")
        name = self._session.get_inputs()[0].name
        try:
            (found,) = self._session.run(None, {name: np.ascontiguousarray(image.numpy())})
        except Exception as error:  # onnxruntime's errors have no base of their own
            if "alloc" in str(error):
                raise MemoryError from error
            raise ModelError(
                f"onnxruntime cannot compute the network: {reason(error)}.",
                "Import the ONNX file again, or choose another model.",
            ) from error
        return torch.from_numpy(found)


def as_scores(found: torch.Tensor, output: Output, threshold: float = 0.0) -> torch.Tensor:
    """Turn what a file gives into class scores; see ``OnnxNetwork``.

    Softmax makes shares of the sum out of independent probabilities. The likeliest class stays the
    likeliest, but a threshold holds for the probabilities as they are, so it is applied here: where
    no class reaches it, the first is given as much as would, and so more than all others.
    """
    if output == "scores":
        return found
    if output == "independent":
        first, others = found[:, :1], found[:, 1:]
        none = (found < threshold).all(dim=1, keepdim=True)
        found = torch.cat([first.masked_fill(none, threshold), others], dim=1)
    if output == "presence":
        found = found.reshape(found.shape[0], 1, *found.shape[-2:])
        found = torch.cat([1 - found, found], dim=1)
    return found.clamp_min(torch.finfo(found.dtype).tiny).log()


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build the network, to be loaded; arguments and errors as of ``build_network``."""
    return OnnxNetwork(**config.options)
