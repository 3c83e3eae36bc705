"""Distillation: a small network learns the class probabilities of a large one.

Hinton, Vinyals and Dean 2015, with soft targets only: the Kullback-Leibler divergence from the
teacher's probabilities to the student's, averaged over pixels with data. The model that is kept is
an exponential moving average of the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import log_softmax

from mmearth.models.network import Normaliser
from mmearth.training.losses import UNLABELLED, border_weights
from mmearth.training.schedule import warm_up_and_cosine
from mmearth.training.softlabels import CropSampler


@dataclass(frozen=True)
class Recipe:
    """Numbers of a training run.

    Attributes:
        steps: number of batches.
        batch: crops in a batch.
        crop: side of a crop in pixels.
        learning_rate: its highest value; it rises over ``warm_up`` steps and falls as a cosine.
        weight_decay: of AdamW.
        averaging: share of the average that stays at each step, once settled.
        seed: of weights, crops and changes.
        mixed: compute layers in bfloat16; twice as fast on processors that know it.
    """

    steps: int
    batch: int = 16
    crop: int = 64
    learning_rate: float = 1e-3
    warm_up: int = 200
    weight_decay: float = 1e-2
    averaging: float = 0.999
    seed: int = 0
    mixed: bool = False


def divergence(scores: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return the mean Kullback-Leibler divergence KL(target || softmax(scores)) over valid pixels.

    Shape:
        scores, target: (B, K, H, W) float32; valid: (B, H, W) bool; returns a scalar.
    """
    return (_divergences(scores, target) * valid).sum() / valid.sum().clamp_min(1)


def boundary_divergence(
    scores: torch.Tensor, target: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """Return the mean divergence, pixels near borders between the teacher's classes weighted more.

    Weights are 1 + ``border_weights`` (Ronneberger et al. 2015, equation 2).

    Shape:
        As ``divergence``.
    """
    classes = target.argmax(dim=1).masked_fill(~valid, UNLABELLED).numpy()
    borders = torch.from_numpy(np.stack([border_weights(one) for one in classes]))
    weights = (1 + borders) * valid
    return (_divergences(scores, target) * weights).sum() / weights.sum().clamp_min(1)


def class_weighted(
    weights: torch.Tensor,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return ``divergence`` in which a pixel counts as much as the teacher's class there.

    Args:
        weights: (K,) float32, of the classes.
    """

    def loss(scores: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        counts = weights[target.argmax(dim=1)] * valid
        total = counts.sum().clamp_min(torch.finfo(counts.dtype).tiny)
        return (_divergences(scores, target) * counts).sum() / total

    return loss


def _divergences(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    # x log x is 0 at 0; the teacher's own entropy is constant, but makes 0 the perfect score.
    entropy = torch.special.entr(target).sum(dim=1)
    return -(target * log_softmax(scores, dim=1)).sum(dim=1) - entropy


def distill(
    network: nn.Module,
    normalise: Normaliser,
    crops: CropSampler,
    recipe: Recipe,
    jitter: Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor],
    wavelengths_um: torch.Tensor,
    *,
    loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] = divergence,
    watch: Callable[[int, float, nn.Module], None] = lambda step, loss, average: None,
    every: int = 500,
) -> nn.Module:
    """Train a network; the same seed gives the same weights on the same machine.

    Args:
        network: to be trained, from (B, C, H, W) to (B, K, H, W) scores.
        normalise: from reflectance to its input.
        crops: where crops come from.
        recipe: numbers of the run.
        jitter: changes reflectance, (B, C, H, W), with wavelengths and a source of chance, as
            ``RadiometricJitter`` does.
        wavelengths_um: (C,) central wavelengths of the bands.
        loss: ``divergence``, ``boundary_divergence`` or one of ``class_weighted``.
        watch: called every ``every`` steps with the step, the mean loss since, and the average.
        every: see ``watch``.

    Returns:
        The averaged network, in evaluation mode.
    """
    random = torch.Generator().manual_seed(recipe.seed)
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    losses: list[float] = []
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * warm_up_and_cosine(
                step, recipe.steps, recipe.warm_up
            )
        images, target, valid = crops.draw(recipe.batch)
        images = jitter(images, wavelengths_um, random)
        values = normalise(images, valid).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.mixed):
            scores = network(values)
        error = loss(scores.float(), target, valid)
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        optimizer.step()
        _average(average, network, min(recipe.averaging, (1 + step) / (10 + step)))
        losses.append(error.item())
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            watch(step + 1, sum(losses) / len(losses), average)
            losses.clear()
            network.train()
    return average


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, keep: float) -> None:
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    for kept, new in pairs:
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - keep)
        else:
            kept.copy_(new)
