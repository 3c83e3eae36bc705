"""Protocols that train a network: its head alone, small additions to its encoder, or all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmearth.api import EvaluationProtocol
from mmearth.evaluation.descent import Curve, descend
from mmearth.evaluation.frozen import BATCH
from mmearth.evaluation.scores import scores_of
from mmearth.evaluation.tiles import Kind, Part
from mmearth.models.network import Normaliser, memory_explained
from mmearth.pretraining.modality import UNKNOWN
from mmearth.training.adapters import add_adapters, parameter_groups
from mmearth.training.loop import BATCH_NORMS

WEIGHT_DECAY = 1e-2


def tune(
    network: nn.Module,
    normalise: Normaliser,
    protocol: EvaluationProtocol,
    train: Part,
    test: Part,
    kind: Kind,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Curve, int]:
    """Train a network, all its layers at the same rate; errors as of ``descend``.

    Means and deviations of batch norms of the encoder stay as they are, as in fine-tuning.

    Args:
        network: on the device to compute on, with an encoder.
        normalise: from what the sensor measures to its input.
        protocol: ``frozen``, ``adapter`` or ``full``.
        train: what is learned from.
        test: what scores are computed on.
        kind: of the labels.
        steps: of the optimiser.
        batch: images of a step, turned and mirrored at random.
        learning_rate: its highest value.
        seed: of batches and adapters.
        cancelled: asked at each step.

    Returns:
        Scores on the way, and the number of parameters that were trained.

    Raises:
        OutOfMemoryError: if the device's memory does not suffice.
    """
    device = next(network.parameters()).device
    encoder: nn.Module = network.encoder  # type: ignore[assignment]
    if protocol == "frozen":
        encoder.requires_grad_(False)
    elif protocol == "adapter":
        torch.manual_seed(seed)
        add_adapters(encoder)
    trained = sum(one.numel() for one in network.parameters() if one.requires_grad)

    def loss_of(random: np.random.Generator) -> torch.Tensor:
        _to_learn(network, encoder)
        part = train.chosen(random.integers(len(train), size=batch))
        turns, mirror = int(random.integers(4)), bool(random.integers(2))
        images, valid, labels = (
            _turned(torch.from_numpy(values), turns, mirror)
            for values in (part.images, part.valid, part.labels)
        )
        scores = network(normalise(images.to(device), valid.to(device))).float()
        labels = labels.to(device)
        if kind == "multi":
            return binary_cross_entropy_with_logits(scores, labels)
        if kind == "single":
            return cross_entropy(scores, labels)
        # A sum divided by hand, since a batch may hold no label at all.
        known = (labels != UNKNOWN).sum().clamp_min(1)
        return cross_entropy(scores, labels, ignore_index=UNKNOWN, reduction="sum") / known

    def look() -> dict[str, float]:
        return scores_of(kind, test.labels, _told(network, normalise, test, kind))

    groups = parameter_groups(network, {}, learning_rate, WEIGHT_DECAY)
    with memory_explained(device):
        curve = descend(groups, steps, loss_of, look, seed=seed, cancelled=cancelled)
    return curve, trained


def _to_learn(network: nn.Module, encoder: nn.Module) -> None:
    network.train()
    for part in encoder.modules():
        if isinstance(part, BATCH_NORMS):
            part.eval()


def _turned(values: torch.Tensor, turns: int, mirror: bool) -> torch.Tensor:
    """Turn by quarters and mirror what has rows and columns."""
    if values.dim() < 3:
        return values
    values = torch.rot90(values, turns, (-2, -1))
    return (values.flip(-1) if mirror else values).contiguous()


@torch.inference_mode()
def _told(network: nn.Module, normalise: Normaliser, part: Part, kind: Kind) -> NDArray[Any]:
    """Return what a network says of a part; see ``scores_of``."""
    network.eval()
    device = next(network.parameters()).device
    told = []
    for first in range(0, len(part), BATCH):
        images = torch.from_numpy(part.images[first : first + BATCH]).to(device)
        valid = torch.from_numpy(part.valid[first : first + BATCH]).to(device)
        scores = network(normalise(images, valid)).float()
        if kind == "pixel":
            told.append(scores.argmax(dim=1).cpu())
        else:
            told.append((scores.sigmoid() if kind == "multi" else scores.softmax(dim=1)).cpu())
    return torch.cat(told).numpy()
