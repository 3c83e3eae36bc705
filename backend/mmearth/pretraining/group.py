"""The processes that compute one run together, one on each graphics card, as torchrun starts them.

A process alone is a group of one: nothing is sent anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

Value = TypeVar("Value")


@dataclass(frozen=True)
class Group:
    """See the module.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks to the user."""
        return self.rank == 0

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        if self.size > 1:
            tensor = tensor.clone()
            distributed.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Tell whether it is so in one of the processes."""
        return bool(self.add(torch.tensor(int(flag))).item()) if self.size > 1 else flag

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the rows of all processes, one process after another; as many of each."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def share(self, value: Value) -> Value:
        """Return what the first process has."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values)
        return values[0]


ALONE = Group()


def processes() -> int:
    """Return how many processes were joined to compute one run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def joined() -> Iterator[Group]:
    """Give the group that this process was started in, by torchrun or alone."""
    if not distributed.is_torchelastic_launched():
        yield ALONE
        return
    card = torch.cuda.is_available()
    if card:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if card else "gloo")
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
