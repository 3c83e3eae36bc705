"""Images of a step, drawn in a thread while the step before it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future

import numpy as np
import torch

from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.group import ALONE, Group
from mmearth.pretraining.method import Pretext
from mmearth.pretraining.modality import Batch

HELD = 2**32 - 1  # in place of the number of an image, among the seeds of those held back


class Drawing:
    """Draws each image by a seed of its own: however a step is divided, its images are the same.

    Args:
        pretext: says what is to be drawn.
        data: where from.
        batch: images of a step.
        parts: that each process computes them in.
        seed: of all chance.
        group: processes that share the images out.
        device: to put them on.
        thread: that they are drawn in.
    """

    def __init__(
        self,
        pretext: Pretext,
        data: Dataset,
        *,
        batch: int,
        parts: int,
        seed: int,
        group: Group = ALONE,
        device: torch.device,
        thread: Executor,
    ) -> None:
        self._pretext, self._data = pretext, data
        self._seed, self._device, self._thread = seed, device, thread
        own = batch // group.size
        self._numbers = range(group.rank * own, (group.rank + 1) * own)
        self._size = own // parts
        self._ahead: dict[int, Future[list[Batch]]] = {}

    def step(self, number: int, *, last: bool) -> list[Batch]:
        """Return the parts of a step, on the device, and begin to draw the next one.

        Args:
            number: of the step, from 0.
            last: whether none comes after it.
        """
        ahead = self._ahead.pop(number, None)
        parts = ahead.result() if ahead else self._draw(number)
        if not last:
            self._ahead = {number + 1: self._thread.submit(self._draw, number + 1)}
        return [
            {name: value.to(self._device, non_blocking=True) for name, value in part.items()}
            for part in parts
        ]

    def _draw(self, step: int) -> list[Batch]:
        images = [
            self._pretext.draw(self._data, 1, np.random.default_rng([self._seed, step, number]))
            for number in self._numbers
        ]
        parts = [
            joined(images[begin : begin + self._size])
            for begin in range(0, len(images), self._size)
        ]
        if self._device.type == "cuda":  # from pinned memory nobody waits for the copy
            parts = [{name: value.pin_memory() for name, value in part.items()} for part in parts]
        return parts


def held_back(pretext: Pretext, data: Dataset, *, images: int, part: int, seed: int) -> list[Batch]:
    """Draw images for comparison, the same at any time.

    Args:
        pretext: says what is to be drawn.
        data: where from.
        images: how many.
        part: of them at once.
        seed: of all chance.
    """
    drawn = [
        pretext.draw(data, 1, np.random.default_rng([seed, number, HELD]))
        for number in range(images)
    ]
    return [joined(drawn[begin : begin + part]) for begin in range(0, images, part)]


def joined(batches: Sequence[Batch]) -> Batch:
    """Return one batch of several."""
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
