"""Protocols on features that stay as they are: k nearest neighbours, and a linear probe.

Of pixels, a cell of the encoder's coarsest map is what is told apart; what is told of cells is
interpolated to pixels, on which the scores are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    interpolate,
    normalize,
)

from mmearth.errors import InputError, JobCancelled
from mmearth.evaluation.descent import Curve, descend
from mmearth.evaluation.encoders import mapped, pooled
from mmearth.evaluation.scores import scores_of
from mmearth.evaluation.tiles import Kind, Part
from mmearth.models.network import Normaliser, memory_explained

BATCH = 32  # images that are run through an encoder at once
TEMPERATURE = 0.07  # of the neighbours' say (Wu et al. 2018, arXiv:1805.01978; DINO, SSL4EO-S12)
MOST_CELLS = 20_000  # whose neighbours are looked for; drawn from those of all images
PROBE_BATCH = 256  # features of a step of the linear probe
LEAST_DEVIATION = 1e-6


@dataclass(frozen=True)
class Features:
    """What an encoder says of a part.

    Attributes:
        values: (N, D) float32 of images, (N, D, h, w) of pixels' cells.
        targets: as of ``Part``; of cells (N, K, h, w) float32, shares of the classes, all 0 where
            nothing is labelled.
        part: what they were computed of.
    """

    values: torch.Tensor
    targets: torch.Tensor
    part: Part

    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features and targets of images or labelled cells, one a row. (n, D), (n, ...)."""
        if self.values.dim() == 2:
            return self.values, self.targets
        values = self.values.permute(0, 2, 3, 1).flatten(0, 2)
        targets = self.targets.permute(0, 2, 3, 1).flatten(0, 2)
        known = targets.sum(dim=1) > 0
        return values[known], targets[known]

    def chosen(self, part: Part, places: NDArray[np.intp]) -> Features:
        """Return those of some images."""
        index = torch.from_numpy(places)
        return Features(self.values[index], self.targets[index], part)


@torch.inference_mode()
def features_of(
    encoder: nn.Module,
    normalise: Normaliser,
    part: Part,
    kind: Kind,
    classes: int,
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> Features:
    """Run an encoder over a part.

    Args:
        encoder: in evaluation mode, on the device to compute on.
        normalise: from what the sensor measures to its input.
        part: images.
        kind: of their labels.
        classes: their number.
        cancelled: asked between batches.

    Raises:
        JobCancelled: if ``cancelled`` says so.
        OutOfMemoryError: if the device's memory does not suffice.
    """
    device = next(encoder.parameters()).device
    network = (mapped if kind == "pixel" else pooled)(encoder).to(device)
    found = []
    with memory_explained(device):
        for first in range(0, len(part), BATCH):
            if cancelled():
                raise JobCancelled("Cancelled.")
            images = torch.from_numpy(part.images[first : first + BATCH]).to(device)
            valid = torch.from_numpy(part.valid[first : first + BATCH]).to(device)
            found.append(network(normalise(images, valid)).float().cpu())
    values = torch.cat(found)
    if kind != "pixel":
        return Features(values, torch.from_numpy(part.labels), part)
    return Features(values, _shares(part.labels, classes, values.shape[-1]), part)


def nearest_neighbours(
    train: Features, test: Features, kind: Kind, classes: int, neighbours: int, seed: int
) -> dict[str, float]:
    """Tell by the most alike of what is known: cosine, each with a say of exp(similarity / 0.07).

    Args:
        train: what is known.
        test: what is to be told.
        kind: of the labels.
        classes: their number.
        neighbours: that have a say.
        seed: of the cells that are drawn, if there are very many.
    """
    values, targets = train.rows()
    if len(values) > MOST_CELLS:
        drawn = np.random.default_rng(seed).choice(len(values), MOST_CELLS, replace=False)
        values, targets = values[torch.from_numpy(drawn)], targets[torch.from_numpy(drawn)]
    known = normalize(values, dim=1)
    votes = _votes(kind, targets, classes)
    asked = test.values if kind != "pixel" else test.values.permute(0, 2, 3, 1).flatten(0, 2)
    said = []
    for rows in normalize(asked, dim=1).split(1024):
        alike, places = (rows @ known.T).topk(min(neighbours, len(known)), dim=1)
        say = ((alike - alike[:, :1]) / TEMPERATURE).exp()  # of a common factor nothing hangs
        say = say / say.sum(dim=1, keepdim=True)
        said.append((votes[places] * say[..., None]).sum(dim=1))
    return _scored(kind, torch.cat(said), test)


def linear_probe(
    train: Features,
    test: Features,
    kind: Kind,
    classes: int,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Curve, int]:
    """Learn a linear layer on standardised features; errors as of ``descend``.

    Returns:
        Scores on the way, and the number of parameters.
    """
    values, targets = train.rows()
    if not len(values):
        raise InputError("Nothing is labelled in what is learned from.", "Choose a larger share.")
    mean, deviation = values.mean(dim=0), values.std(dim=0, correction=0)
    deviation = deviation.clamp_min(LEAST_DEVIATION)
    values = (values - mean) / deviation
    layer = nn.Linear(values.shape[1], classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    asked = test.values if kind != "pixel" else test.values.permute(0, 2, 3, 1).flatten(0, 2)
    asked = (asked - mean) / deviation

    def loss_of(random: np.random.Generator) -> torch.Tensor:
        drawn = torch.from_numpy(random.integers(len(values), size=min(PROBE_BATCH, len(values))))
        scores = layer(values[drawn])
        if kind == "multi":
            return binary_cross_entropy_with_logits(scores, targets[drawn])
        return cross_entropy(scores, targets[drawn])  # of cells, shares of the classes

    @torch.inference_mode()
    def look() -> dict[str, float]:
        scores = layer(asked)
        told = torch.sigmoid(scores) if kind == "multi" else torch.softmax(scores, dim=1)
        return _scored(kind, told, test)

    groups = [{"params": list(layer.parameters()), "peak": learning_rate, "weight_decay": 0.0}]
    curve = descend(groups, steps, loss_of, look, seed=seed, cancelled=cancelled)
    return curve, sum(one.numel() for one in layer.parameters())


def told_of_pixels(scores: torch.Tensor, side: int) -> NDArray[np.int64]:
    """Return the class of each pixel by scores of cells, (N, K, h, w) to (N, side, side)."""
    wide = [
        interpolate(rows, (side, side), mode="bilinear", align_corners=False).argmax(dim=1)
        for rows in scores.split(BATCH)
    ]
    return torch.cat(wide).numpy()


def _scored(kind: Kind, told: torch.Tensor, test: Features) -> dict[str, float]:
    """Return scores of probabilities, (N, K) of images or (N * h * w, K) of cells."""
    labels: NDArray[Any] = test.part.labels
    if kind != "pixel":
        return scores_of(kind, labels, told.numpy())
    count, _, height, width = test.values.shape
    cells = told.reshape(count, height, width, -1).permute(0, 3, 1, 2)
    return scores_of(kind, labels, told_of_pixels(cells, labels.shape[-1]))


def _votes(kind: Kind, targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Return what each of the known says. (n, K) float32."""
    if kind == "single":
        return nn.functional.one_hot(targets, classes).float()
    return targets


def _shares(labels: NDArray[np.int64], classes: int, cells: int) -> torch.Tensor:
    """Return the share of each class among the labelled pixels of cells. (N, K, h, w) float32."""
    count, side, _ = labels.shape
    each = side // cells
    counts = np.stack(
        [
            (labels == one).reshape(count, cells, each, cells, each).sum(axis=(2, 4))
            for one in range(classes)
        ],
        axis=1,
    ).astype(np.float32)
    return torch.from_numpy(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
