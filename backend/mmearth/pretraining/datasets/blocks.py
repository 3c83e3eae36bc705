"""Parts to learn from and to test with that lie apart: whole blocks of ground belong to one.

Neighbouring tiles resemble each other; see ``mmearth.training.split``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Mapping, Sequence

import shapely

from mmearth.api import Problem
from mmearth.errors import EmptyAreaError, counted, listed
from mmearth.raster.ground import overlaps

KM_PER_DEGREE = 111.32  # of latitude
SHARED = "shared"  # part of tiles that show ground of two parts
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def block_at(lon: float, lat: float, side_km: float) -> tuple[int, int]:
    """Return row and column of the block of ground that a place lies in.

    Blocks are counted in degrees, so that images in several systems share them; a degree of
    longitude is taken as long as it is in the middle of the block's row.

    Args:
        lon: of the place in degrees, also beyond 180.
        lat: likewise.
        side_km: of a block.
    """
    side = side_km / KM_PER_DEGREE
    row = math.floor(lat / side)
    across = side / max(0.01, math.cos(math.radians((row + 0.5) * side)))
    return row, math.floor(((lon + 180) % 360 - 180) / across)


def split_blocks(
    blocks: Sequence[Hashable], shares: Mapping[str, float] = SHARES
) -> dict[str, list[int]]:
    """Divide tiles into parts, so that tiles of one block are in one part.

    Blocks are taken in an order that their names alone decide, each by the part that lacks most.

    Args:
        blocks: of each tile.
        shares: of the tiles that each part is to have.

    Returns:
        Numbers of the tiles of each part, ascending. With few blocks a part may remain empty, but
        never the first.
    """
    members: dict[Hashable, list[int]] = {}
    for tile, block in enumerate(blocks):
        members.setdefault(block, []).append(tile)
    parts: dict[str, list[int]] = {name: [] for name, share in shares.items() if share > 0}
    for block in sorted(members, key=_order):
        name = max(parts, key=lambda part: shares[part] * len(blocks) - len(parts[part]))
        parts[name] += members[block]
    return {name: sorted(parts.get(name, [])) for name in shares}


def split_ground(
    blocks: Sequence[Hashable],
    grounds: Sequence[shapely.Geometry],
    shares: Mapping[str, float] = SHARES,
) -> dict[str, list[int]]:
    """Divide tiles into parts as ``split_blocks`` does, so that none learns what another is asked.

    Tiles of different grids of pixels overlap at the rims of blocks.

    Args:
        blocks: of each tile.
        grounds: outlines of the tiles.
        shares: of the tiles that each part is to have; the first is learned from.

    Returns:
        Numbers of the tiles of each part; ``SHARED`` are those that would be learned from, but
        overlap a tile of another part.

    Raises:
        EmptyAreaError: if none is left in the first part.
    """
    parts = split_blocks(blocks, shares)
    first, *others = parts
    held = [number for name in others for number in parts[name]]
    pairs = overlaps([grounds[one] for one in parts[first]], [grounds[one] for one in held])
    taken = sorted({parts[first][one] for one, _ in pairs})
    parts[first] = sorted(set(parts[first]) - set(taken))
    if not parts[first]:
        raise EmptyAreaError(
            f"All {counted(len(taken), 'tile')} to learn from overlap tiles that are held back.",
            "Hold back a smaller share, or choose larger blocks.",
        )
    return {**parts, SHARED: taken} if taken else parts


def said_of_parts(
    parts: Mapping[str, Sequence[int]], shares: Mapping[str, float], side_km: float
) -> list[Problem]:
    """Return warnings of parts that are empty, and of tiles that are in none of those wanted."""
    found = []
    lacking = [name for name, share in shares.items() if share and not parts[name]]
    if lacking:
        found.append(
            Problem(
                code="parts",
                message=f"No tile is in the part {listed(lacking)}: there are too few blocks of "
                f"{side_km:g} km.",
                advice="Choose smaller blocks.",
            )
        )
    if taken := parts.get(SHARED):
        found.append(
            Problem(
                code="shared_ground",
                message=f"{counted(len(taken), 'tile')} of {sum(map(len, parts.values())):,} show "
                f"ground of tiles that are held back, and are in the part {SHARED!r}, which is "
                "not learned from.",
            )
        )
    return found


def _order(block: Hashable) -> str:
    return hashlib.sha256(repr(block).encode()).hexdigest()
