"""Where a label would teach the most: what the map is unsure of, and unlike what is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.training.head import Head
from mmearth.training.labels import Labels

BLOCK = 16  # pixels a side, of which one is suggested
SUGGESTIONS = 5
MOST_UNCERTAIN = 0.1  # share of the blocks among which suggestions are chosen


@dataclass(frozen=True)
class Place:
    """A pixel of the scene where a label would teach the most, and how uncertain it is (0-100)."""

    row: int
    col: int
    uncertainty: float


@dataclass(frozen=True)
class Blocks:
    """Blocks of pixels that have data and no label.

    Attributes:
        rows: (n,) int64, of the central pixel in the scene.
        cols: (n,) int64.
        uncertainty: (n,) float32, mean over the block.
        columns: (n, D) float32, of the central pixel.
    """

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    uncertainty: NDArray[np.float32]
    columns: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: Sequence[Blocks]) -> Blocks:
        """Put the blocks of several tiles together."""
        fields = ((part.rows, part.cols, part.uncertainty, part.columns) for part in parts)
        return cls(*(np.concatenate(values) for values in zip(*fields, strict=True)))


def suggest(blocks: Blocks, head: Head, known: NDArray[np.float32], labels: Labels) -> list[Place]:
    """Choose blocks to be labelled next: uncertain, and unlike what is labelled or chosen.

    Of the most uncertain ones the one is taken whose uncertainty times distance to the nearest
    labelled or chosen column is the largest, again and again: greedy k-centre (Sener and Savarese
    2018), weighted, among standardised columns.

    Args:
        blocks: of the view.
        head: standardises columns.
        known: (n, D) columns of labelled pixels.
        labels: of these pixels.
    """
    order = np.argsort(-blocks.uncertainty, kind="stable")
    order = order[: max(SUGGESTIONS, int(order.size * MOST_UNCERTAIN))]
    order = order[blocks.uncertainty[order] > 0]
    mean, scale = head.mean.numpy(), head.scale.numpy()
    _, place, counts = np.unique(labels.units, return_inverse=True, return_counts=True)
    centres = np.zeros((counts.size, known.shape[1]), np.float32)
    np.add.at(centres, place, known)
    centres = (centres / counts[:, None].astype(np.float32) - mean) * scale
    candidates = (blocks.columns[order] - mean) * scale
    distance = torch.cdist(torch.from_numpy(candidates), torch.from_numpy(centres)).numpy()
    nearest = distance.min(axis=1) if order.size else np.zeros(0)
    found = []
    for _ in range(min(SUGGESTIONS, order.size)):
        best = int(np.argmax(nearest * blocks.uncertainty[order]))
        if nearest[best] == 0:
            break
        block = order[best]
        spot = int(blocks.rows[block]), int(blocks.cols[block])
        found.append(Place(*spot, float(blocks.uncertainty[block])))
        away = np.linalg.norm(candidates - candidates[best], axis=1)
        nearest = np.minimum(nearest, away)
    return found
