"""Parts to learn from and to test with that lie apart: whole blocks of ground belong to one.

Neighbouring tiles resemble each other; see ``mmearth.training.split``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


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


def _order(block: Hashable) -> str:
    return hashlib.sha256(repr(block).encode()).hexdigest()
