"""How much memory tiles may take that are computed at once. Imports no torch: plans use it too."""

from __future__ import annotations

import psutil

from mmearth.settings import Settings

# Share of the free memory that tiles may take; other programs live on the machine too.
MEMORY_SHARE = 0.25
LANE_BYTES = 256 * 2**20  # of feature maps, for each core: a tile of 256 pixels of a small U-Net


def processor_budget(settings: Settings) -> int:
    """Return the bytes that the feature maps of tiles may take on a processor."""
    if settings.memory_mb:
        return settings.memory_mb * 2**20
    available = int(psutil.virtual_memory().available * MEMORY_SHARE)
    return min(available, settings.cpu_threads * LANE_BYTES)
