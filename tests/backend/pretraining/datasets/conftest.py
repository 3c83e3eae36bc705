"""Requests and draws that the tests of all data sets share."""

from __future__ import annotations

import numpy as np
import pytest

from mmearth.api import PretrainOutputs, PretrainSpec


@pytest.fixture
def request_of(tmp_path):
    """Return a function that makes a request of a data set."""

    def make(dataset, data, **fields) -> PretrainSpec:
        outputs = PretrainOutputs(model=str(tmp_path / "encoder"))
        return PretrainSpec(
            **{"data": str(data), "dataset": dataset, "crop": 16, **fields}, outputs=outputs
        )

    return make


@pytest.fixture
def draw():
    """Return a function that draws from a data set."""
    return lambda data, count=20, seed=0: data.draw(count, np.random.default_rng(seed))
