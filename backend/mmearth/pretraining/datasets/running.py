"""Statistics of numbers that come piece by piece."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Running:
    """Count, mean, spread and range of each channel; of what is added, nothing is kept.

    Parts are merged by their own means (Chan et al. 1983, "Algorithms for computing the sample
    variance"): sums of squares would lose what differs between large numbers.

    Attributes:
        count: (C,) numbers that are finite.
        mean: (C,) float64; 0 of none.
        low: (C,) smallest; infinite of none.
        high: (C,) largest; minus infinite of none.
    """

    def __init__(self, channels: int) -> None:
        self.count = np.zeros(channels, np.int64)
        self.mean = np.zeros(channels)
        self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._squares = np.zeros(channels)

    @property
    def std(self) -> NDArray[np.float64]:
        """(C,) standard deviation; 0 of none."""
        return np.sqrt(self._squares / np.maximum(self.count, 1))

    def add(self, values: NDArray[Any]) -> None:
        """Add numbers, (C, ...); those that are not finite stand for no data."""
        for channel, numbers in enumerate(values.reshape(len(values), -1)):
            part = numbers[np.isfinite(numbers)].astype(np.float64)
            if not part.size:
                continue
            mean, known = float(part.mean()), int(self.count[channel])
            total = known + part.size
            off = mean - self.mean[channel]
            self._squares[channel] += (
                (part - mean) ** 2
            ).sum() + off**2 * known * part.size / total
            self.mean[channel] += off * part.size / total
            self.count[channel] = total
            self.low[channel] = min(self.low[channel], part.min())
            self.high[channel] = max(self.high[channel], part.max())
