"""How the learning rate goes over a run."""

from __future__ import annotations

import math


def warm_up_and_cosine(step: int, steps: int, warm_up: float) -> float:
    """Return the share of the highest learning rate: a linear rise under a falling half cosine.

    Args:
        step: number of the step, from 0.
        steps: of the whole run.
        warm_up: steps of the rise; no fewer than one count.

    Returns:
        From 0 to 1.
    """
    rise = min(1.0, (step + 1) / max(1.0, warm_up))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))
