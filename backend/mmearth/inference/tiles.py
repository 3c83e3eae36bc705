"""Where tiles lie, and how they are blended.

Tiles overlap by at least a quarter and are weighted by a taper that falls to zero at their rim, so
what a network gets wrong at the rim of a tile does not reach the map. The scene itself is widened
by half an overlap of reflected pixels, so its own rim is treated like any other place. All tiles
start at multiples of the network's stride: the cells in which a network pools then lie the same in
every tile, and tiles of any size agree where they overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MINIMUM_OVERLAP = 0.25
# A Hann ramp to this power. Up to 0.47 of the overlap from its rim a tile's say is then outweighed
# by its neighbours', even in corners, where three tiles may be wrong and one right; a plain Hann
# ramp gives them that only up to 0.36. Still smooth: 10 to 90 % over a sixth of the overlap.
SHARPNESS = 6


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis.

    Positions count from the scene's first pixel; the first tile starts before it.

    Attributes:
        length: pixels of the scene.
        tile: pixels of a tile, a multiple of ``stride``.
        overlap: least number of pixels that neighbours share.
        stride: tiles start at multiples of it.
    """

    length: int
    tile: int
    overlap: int
    stride: int = 1

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First pixel of each tile, evenly spread; negative or beyond the rim where reflected."""
        padding = math.ceil(self.overlap / 2 / self.stride)  # in strides, like all that follows
        room = math.ceil((self.length + padding * self.stride - self.tile) / self.stride)
        if room <= -padding:
            return (-((self.tile - self.length) // 2 // self.stride) * self.stride,)
        longest_step = (self.tile - self.overlap) // self.stride
        steps = math.ceil((room + padding) / longest_step)
        return tuple(
            (-padding + math.ceil((room + padding) * step / steps)) * self.stride
            for step in range(steps + 1)
        )

    def mirrored(self, start: int) -> NDArray[np.intp]:
        """Return the scene pixel that each pixel of a tile shows, reflected at the rims."""
        if self.length == 1:
            return np.zeros(self.tile, np.intp)
        period = 2 * (self.length - 1)
        position = np.abs(np.arange(start, start + self.tile)) % period
        return np.minimum(position, period - position)

    @cached_property
    def taper(self) -> NDArray[np.float32]:
        """Weights across a tile: a sharpened Hann ramp at each rim, 1 between. (tile,) float32."""
        hann = np.sin(np.pi / 2 * (np.arange(self.overlap) + 0.5) / self.overlap) ** 2
        rise = hann**SHARPNESS
        weights = np.ones(self.tile, np.float32)
        weights[: self.overlap] = rise
        weights[-self.overlap :] = rise[::-1]
        return weights

    @cached_property
    def total(self) -> NDArray[np.float32]:
        """Sum of the weights of all tiles at each pixel of the scene. (length,) float32."""
        total = np.zeros(self.length, np.float32)
        for start in self.starts:
            first, last = max(0, start), min(self.length, start + self.tile)
            total[first:last] += self.taper[first - start : last - start]
        return total


@dataclass(frozen=True)
class CellAxis(Axis):
    """The tiles of another axis, counted in cells of several pixels, for maps that are coarser.

    The last cell may reach beyond the scene.

    Attributes:
        fine: the same tiles, counted in pixels; its stride is a multiple of a cell's side.
    """

    fine: Axis = field(kw_only=True)

    @classmethod
    def of(cls, fine: Axis, side: int) -> CellAxis:
        """Count in cells of ``side`` pixels."""
        if fine.stride % side:
            raise ValueError(f"Expected cells that {fine.stride} pixels hold, found {side} pixels.")
        length = math.ceil(fine.length / side)
        return cls(length, fine.tile // side, math.ceil(fine.overlap / side), fine=fine)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First cell of each tile."""
        side = self.fine.tile // self.tile
        return tuple(start // side for start in self.fine.starts)

    @cached_property
    def taper(self) -> NDArray[np.float32]:
        """Weights across a tile: of a cell, the mean of its pixels'. (tile,) float32."""
        return self.fine.taper.reshape(self.tile, -1).mean(axis=1)


@dataclass(frozen=True)
class Layout:
    """Tiles over a scene: the product of tiles along rows and along columns.

    Attributes:
        rows: tiles along the vertical axis.
        cols: tiles along the horizontal axis.
    """

    rows: Axis
    cols: Axis

    @classmethod
    def of(
        cls,
        height: int,
        width: int,
        tile: int,
        *,
        overlap: float = MINIMUM_OVERLAP,
        least: int = 0,
        stride: int = 1,
    ) -> Layout:
        """Lay tiles over a scene.

        Args:
            height: rows of the scene.
            width: columns of the scene.
            tile: side of a tile in pixels.
            overlap: share of a tile that neighbours have in common, 0.25 to 0.5.
            least: pixels that they have in common at least, as far as half a tile allows.
            stride: of the network; the tile's side is a multiple of it.
        """
        if not MINIMUM_OVERLAP <= overlap <= 0.5:
            raise ValueError(f"Expected an overlap of 0.25 to 0.5 of a tile, found {overlap}.")
        pixels = max(math.ceil(tile * overlap), min(least, tile // 2))
        return cls(Axis(height, tile, pixels, stride), Axis(width, tile, pixels, stride))

    def in_cells(self, side: int) -> Layout:
        """Return the same tiles counted in cells of ``side`` pixels a side.

        Args:
            side: pixels along a side of a cell; the stride is a multiple of it.
        """
        if side == 1:
            return self
        return Layout(CellAxis.of(self.rows, side), CellAxis.of(self.cols, side))

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.rows.starts) * len(self.cols.starts)

    def finished_rows(self, number: int) -> int:
        """Return how many rows of the scene no later row of tiles touches."""
        starts = self.rows.starts
        last = number == len(starts) - 1
        return self.rows.length if last else max(0, starts[number + 1])
