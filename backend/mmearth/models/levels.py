"""What a network says of a tile, level by level, and a memory of it.

A head on a trained network changes with every label that is drawn; what lies beneath it does not.
So the maps of a tile are kept, by the content of tile and network: a map made by a new head, or by
the same head once more, then costs next to nothing. The most recent ones are kept, up to a budget.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import nn

from mmearth.errors import ModelError
from mmearth.models.budget import processor_budget
from mmearth.settings import Settings

MOST_BYTES = 2**30
DIGEST_BYTES = 16
IMAGE = 0  # number of the level that is the input itself


def levels(base: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the image, the encoder's maps, and a decoder's last map where there is one.

    Args:
        base: a network of ``build_network``.
        x: (B, C, H, W) float32, normalised.

    Returns:
        Maps (B, widths[i], H / stride[i], W / stride[i]), the image first.

    Raises:
        ModelError: if the network has no encoder.
    """
    if not hasattr(base, "encoder"):
        raise nothing_to_build_on()
    encoder: nn.Module = base.encoder  # type: ignore[assignment]
    tokens = getattr(encoder, "token_maps", None)
    if tokens is not None:
        return [x, *tokens(x)]  # the pyramid made of them is untrained
    pyramid: list[torch.Tensor] = encoder(x)
    maps = [level for level in pyramid if level.shape[1] and level is not x]
    if decodes(base):
        maps.append(base.decoder(pyramid))  # type: ignore[operator]
    return [x, *maps]


def nothing_to_build_on() -> ModelError:
    """Return what is to be raised of a model that shows nothing but its result."""
    return ModelError(
        "Nothing can be built on this model: what it says on the way to its map is out of sight.",
        "Choose another model, or an encoder, as the base.",
    )


def decodes(base: nn.Module) -> bool:
    """Return whether the last of the levels is a decoder's."""
    tokens = hasattr(getattr(base, "encoder", None), "token_maps")
    return not tokens and hasattr(base, "segmentation_head") and hasattr(base, "decoder")


@torch.no_grad()
def levels_of(
    base: nn.Module, values: torch.Tensor, chosen: Sequence[int] | None = None
) -> list[torch.Tensor]:
    """Return the maps of one tile, from memory if they are there; safe to call in several threads.

    The numbers are those of ``levels``, bit by bit. On other devices than the processor, nothing
    is kept.

    Args:
        base: a network of ``build_network``, in evaluation mode.
        values: (1, C, H, W) float32, normalised.
        chosen: numbers of the levels wanted, as ``levels`` orders them, 0 being the image; all if
            None. What is not wanted is not kept.

    Returns:
        Maps (1, widths[i], H / stride[i], W / stride[i]) float32, not to be written to.

    Raises:
        ModelError: if the network has no encoder.
    """
    values = values.contiguous(memory_format=torch.channels_last)
    if chosen is not None and set(chosen) == {IMAGE}:
        return [values for _ in chosen]
    if values.device.type != "cpu":
        maps = levels(base, values)
        return maps if chosen is None else [maps[number] for number in chosen]
    return _memory.levels_of(base, values, None if chosen is None else tuple(chosen))


def set_budget(settings: Settings) -> None:
    """Keep no more than the settings, and the memory that is free now, allow."""
    _memory.set_budget(min(MOST_BYTES, processor_budget(settings)))


def forget() -> None:
    """Give the memory back."""
    _memory.forget()


def tiles_computed() -> int:
    """Return how many tiles this process has computed because they were not in memory."""
    return _memory.computed


_Key = tuple[bytes, bytes, tuple[int, ...] | None]


class _Memory:
    """The most recent maps, by digests of network and tile and by the levels chosen."""

    def __init__(self, budget: int) -> None:
        self.computed = 0
        self._budget = budget
        self._bytes = 0
        self._maps: OrderedDict[_Key, list[torch.Tensor]] = OrderedDict()
        self._networks: WeakKeyDictionary[nn.Module, tuple[object, bytes]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def levels_of(
        self, base: nn.Module, values: torch.Tensor, chosen: tuple[int, ...] | None
    ) -> list[torch.Tensor]:
        key = self._digest(base), _digest_of_tile(values), chosen
        with self._lock:
            found = self._maps.get(key)
            if found is not None:
                self._maps.move_to_end(key)
        if found is None:
            maps = levels(base, values)
            wanted = range(len(maps)) if chosen is None else chosen
            # The image is the caller's anyhow.
            found = [maps[number] for number in wanted if number != IMAGE]
            self._keep(key, found)
        kept = iter(found)
        wanted = range(len(found) + 1) if chosen is None else chosen
        return [values if number == IMAGE else next(kept) for number in wanted]

    def set_budget(self, budget: int) -> None:
        with self._lock:
            self._budget = budget
            self._shrink()

    def forget(self) -> None:
        with self._lock:
            self._maps.clear()
            self._bytes = 0

    def _keep(self, key: _Key, maps: list[torch.Tensor]) -> None:
        with self._lock:
            self.computed += 1
            if key not in self._maps:  # another thread may have been faster
                self._maps[key] = maps
                self._bytes += _bytes(maps)
                self._shrink()

    def _shrink(self) -> None:
        while self._bytes > self._budget:
            _, oldest = self._maps.popitem(last=False)
            self._bytes -= _bytes(oldest)

    def _digest(self, base: nn.Module) -> bytes:
        """Return a digest of a network, taken anew only when its weights have been written to."""
        tensors = base.state_dict()
        state = tuple((t.data_ptr(), t._version) for t in tensors.values())
        with self._lock:
            known = self._networks.get(base)
        if known and known[0] == state:
            return known[1]
        digest = hashlib.blake2b(repr(base).encode(), digest_size=DIGEST_BYTES)
        for name, tensor in tensors.items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        with self._lock:
            self._networks[base] = state, digest.digest()
        return digest.digest()


def _digest_of_tile(values: torch.Tensor) -> bytes:
    pixels = values.permute(0, 2, 3, 1).contiguous().numpy()  # as it lies in memory
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=DIGEST_BYTES)
    digest.update(pixels.data)
    return digest.digest()


def _bytes(maps: list[torch.Tensor]) -> int:
    return sum(level.untyped_storage().nbytes() for level in maps)


_memory = _Memory(MOST_BYTES)
