"""Images of a step, drawn in threads while the step before it is computed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np
import torch

from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.group import ALONE, Group
from mmearth.pretraining.method import Pretext
from mmearth.pretraining.modality import Batch

THREADS = 8  # at most: what Python does by itself, one of them does at a time
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
        pool: that they are drawn in.
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
        pool: Executor,
    ) -> None:
        self._pretext, self._data = pretext, data
        self._seed, self._device, self._pool = seed, device, pool
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
        parts = (ahead or self._begun(number)).result()
        if not last:
            self._ahead = {number + 1: self._begun(number + 1)}
        return [
            {name: value.to(self._device, non_blocking=True) for name, value in part.items()}
            for part in parts
        ]

    def _begun(self, step: int) -> Future[list[Batch]]:
        """Begin to draw the images of a step, each by itself."""
        images = [self._pool.submit(self._image, step, number) for number in self._numbers]
        # Its turn comes after theirs: it waits for no image that waits for a thread.
        return self._pool.submit(self._parts, images)

    def _image(self, step: int, number: int) -> Batch:
        random = np.random.default_rng([self._seed, step, number])
        return self._pretext.draw(self._data, 1, random)

    def _parts(self, drawn: Sequence[Future[Batch]]) -> list[Batch]:
        images = [one.result() for one in drawn]
        parts = [
            joined(images[begin : begin + self._size])
            for begin in range(0, len(images), self._size)
        ]
        if self._device.type == "cuda":  # from pinned memory nobody waits for the copy
            parts = [{name: value.pin_memory() for name, value in part.items()} for part in parts]
        return parts


def threads() -> ThreadPoolExecutor:
    """Return threads to draw in, no more than there are processors for each process of a group."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by torchrun
    return ThreadPoolExecutor(min(THREADS, max(1, (os.cpu_count() or 1) // processes)))


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
