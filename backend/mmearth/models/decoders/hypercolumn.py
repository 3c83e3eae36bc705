"""Hypercolumns: every pixel is classified by all that a trained network says of it.

Hariharan et al. 2015: the maps of all levels, brought to the pixels' size, and the image itself,
side by side. The first layer is linear and so is the upsampling, so each level is narrowed at its
own size and the results are added: the same numbers for a fraction of the work. A head on a pixel's
column can be trained on labelled pixels alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import conv2d, grid_sample, interpolate

from mmearth.models.card import NetworkConfig
from mmearth.models.levels import levels, levels_of
from mmearth.models.registry import build_network

HIDDEN = 64  # channels between the two layers of a head


class Hypercolumn(nn.Module):
    """A small head on the columns of a trained network.

    Shape:
        (B, C, H, W) float32, normalised, to (B, classes, H, W).

    Args:
        base: what was trained before; its own head goes unused.
        widths: channels of each level that is used.
        classes: number of classes.
        hidden: channels between the two layers of the head.
        chosen: numbers of the levels that are used, see ``mmearth.models.levels``; all if None.

    Attributes:
        remembers: single tiles take the levels from memory, if they are there, and are not seen by
            hooks on the base then. Off at first, for those who count and export.
    """

    def __init__(
        self,
        base: nn.Module,
        widths: Sequence[int],
        classes: int,
        hidden: int = HIDDEN,
        chosen: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.base = base
        self.widths = tuple(widths)
        self.chosen = tuple(range(len(self.widths)) if chosen is None else chosen)
        self.remembers = False
        # As features differ in scale, each is brought to mean 0 and deviation 1 first.
        self.mean = nn.Parameter(torch.zeros(sum(widths)), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(sum(widths)), requires_grad=False)
        self.first = nn.Linear(sum(widths), hidden)
        self.last = nn.Linear(hidden, classes)

    @property
    def encoder(self) -> nn.Module:
        """The base's, for whoever wants features."""
        encoder: nn.Module = self.base.encoder  # type: ignore[assignment]
        return encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores."""
        if self.remembers and not self.training and x.shape[0] == 1:
            return self.on_levels(levels_of(self.base, x, self.chosen))
        maps = levels(self.base, x)
        return self.on_levels([maps[number] for number in self.chosen])

    def on_levels(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return class scores (B, classes, H, W) of the chosen levels, the image first."""
        size = maps[0].shape[-2:]
        scaled = self.first.weight * self.scale
        bias: torch.Tensor | None = self.first.bias - scaled @ self.mean
        total: torch.Tensor | None = None
        for level, weight in zip(maps, scaled.split(self.widths, dim=1), strict=True):
            narrow = conv2d(level, weight[:, :, None, None], bias)
            if narrow.shape[-2:] != size:
                narrow = interpolate(narrow, size=size, mode="bilinear", align_corners=False)
            total, bias = narrow if total is None else total.add_(narrow), None
        if total is None:
            raise ValueError("Expected one level at least, found none.")
        return conv2d(total.relu_(), self.last.weight[:, :, None, None], self.last.bias)

    def on_columns(self, columns: torch.Tensor) -> torch.Tensor:
        """Return class scores (n, classes) of single pixels. columns: (n, sum of widths)."""
        scores: torch.Tensor = self.last(self.first((columns - self.mean) * self.scale).relu())
        return scores


def columns(maps: Sequence[torch.Tensor], rows: torch.Tensor, cols: torch.Tensor) -> torch.Tensor:
    """Return the columns of single pixels of one tile.

    Args:
        maps: (1, widths[i], h, w) each, see ``mmearth.models.levels``; the first has the size of
            the tile.
        rows: (n,) int64 rows of the pixels.
        cols: (n,) int64 columns of the pixels.

    Returns:
        (n, sum of widths) float32.
    """
    height, width = maps[0].shape[-2:]
    places = torch.stack([(2 * cols + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)

    def at_places(level: torch.Tensor) -> torch.Tensor:
        if level.shape[-2:] == (height, width):
            return level[0, :, rows, cols]  # a neighbour without data must not spoil it
        sampled: torch.Tensor = grid_sample(
            level, places[None, None].to(level), mode="bilinear", padding_mode="border",
            align_corners=False,
        )  # fmt: skip
        return sampled[0, :, 0]

    return torch.cat([at_places(level) for level in maps]).T


def build(config: NetworkConfig, *, in_channels: int, classes: int) -> nn.Module:
    """Build the network; arguments and errors as of ``build_network``.

    Options: ``base``, a ``NetworkConfig`` with ``classes``; ``widths`` and numbers (``chosen``) of
    the levels that are used; ``hidden``.
    """
    options = dict(config.options)
    base, count = base_of(config)
    return Hypercolumn(
        build_network(base, in_channels=in_channels, classes=count),
        options["widths"],
        classes,
        options.get("hidden", HIDDEN),
        options.get("chosen"),
    )


def base_of(config: NetworkConfig) -> tuple[NetworkConfig, int]:
    """Return how the network beneath a head is built, and its number of classes."""
    facts = dict(config.options["base"])
    classes = int(facts.pop("classes"))
    return NetworkConfig.model_validate(facts), classes
