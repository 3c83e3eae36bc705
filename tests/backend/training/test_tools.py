"""What trains the embedded models: thresholds of tree masks, and changed tiles."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from scenes import DATA

from tools.label_tiles import BANDS, change, resize
from tools.training import best_threshold

CHANCES = np.linspace(0, 1, 1001)


@pytest.mark.parametrize("edge", [0.12, 0.5, 0.9])
def test_the_best_threshold_is_found(edge) -> None:
    assert best_threshold(CHANCES, CHANCES >= edge) == pytest.approx(edge, abs=0.01)
    # What is wrong on both sides alike moves it nowhere.
    truth = (CHANCES >= edge) ^ (np.abs(CHANCES - edge) < 0.02)
    assert best_threshold(CHANCES, truth) == pytest.approx(edge, abs=0.03)


@pytest.mark.parametrize("edge", [0.0, 0.99])
def test_a_threshold_at_the_rim_of_what_is_tried_is_no_threshold(edge) -> None:
    with pytest.raises(ValueError, match="not calibrated"):
        best_threshold(CHANCES, CHANCES >= edge)


@pytest.fixture(scope="module")
def tile():
    """A tile of which a corner holds no data."""
    with rasterio.open(DATA / "terramind_l2a.tif") as dataset:
        order = [dataset.descriptions.index(band) + 1 for band in BANDS]
        image = dataset.read(order).astype(np.float32)
    image[:, :20, :30] = 0
    return image, image.any(axis=0)


def test_changed_tiles_can_be_stored_and_name_their_level(tile) -> None:
    levels, sizes = set(), set()
    for seed in range(30):
        random = np.random.default_rng(seed)
        image, valid, level = change(*tile, "L2A", tile[0], random)
        assert image.dtype == np.float32 and image.shape == (len(BANDS), *valid.shape)
        assert image.min() >= 1 and image.max() <= 20_000 and (image == image.round()).all()
        assert min(valid.shape) >= 48 and 0.5 < valid.mean() < 1
        levels.add(level)
        sizes.add(valid.shape)
    assert levels == {"L1C", "L2A"} and len(sizes) > 5


@pytest.mark.parametrize("factor", [0.7, 1.3, 1.6])
def test_no_data_is_blended_into_no_pixel_that_counts(tile, factor) -> None:
    _, valid = tile
    plain = np.repeat(np.float32(3000) * valid[None], len(BANDS), axis=0)
    image, kept = resize(plain, valid, factor)
    assert np.abs(image[:, kept] - 3000).max() < 5
    assert kept.mean() > 0.8 * valid.mean()
