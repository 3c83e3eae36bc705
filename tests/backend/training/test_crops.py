"""Crops show what the scene shows, and only labels that may be seen."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import MODEL_BANDS

from mmearth.api import RasterInput, SegmentSpec
from mmearth.errors import EmptyAreaError, JobCancelled
from mmearth.jobs.prepare import prepare
from mmearth.raster.stack import RasterStack
from mmearth.training.crops import SIDE, Crops, read_around, stacked
from mmearth.training.labels import Labels
from mmearth.training.losses import UNLABELLED


def labels_of(rows, cols, classes, units) -> Labels:
    parts = (np.array(part, np.int64) for part in (rows, cols, classes, units))
    return Labels(("a", "b"), *parts)


@pytest.fixture
def stack(settings, scene, tiny_model) -> RasterStack:
    ready = prepare(SegmentSpec(inputs=[RasterInput(path=str(scene))], model="tiny"), settings)
    return RasterStack(ready.bands, ready.grid)


@pytest.fixture
def whole(stack) -> tuple[np.ndarray, np.ndarray]:
    with stack:
        return stack.read_rows(0, stack.grid.height)


@pytest.mark.parametrize("place", [(40, 50), (-20, 100), (130, -9), (140, 120)])
def test_a_square_is_cut_out_and_reflected(stack, whole, place) -> None:
    rows, cols = (list(range(0, size, 10)) for size in whole[1].shape)
    grid = [(row, col) for row in rows for col in cols]
    labels = labels_of(*zip(*grid, strict=True), [0] * len(grid), range(len(grid)))
    mosaic, *_ = read_around(stack, labels, 32, seed=0)
    image, valid = mosaic.cut(*place, 32)
    down, across = mosaic.places(*place, 32)
    assert image.shape == (len(MODEL_BANDS), 32, 32)
    np.testing.assert_array_equal(image, whole[0][:, down][:, :, across])
    np.testing.assert_array_equal(valid, whole[1][down][:, across])


def test_image_and_target_stay_together(stack, whole) -> None:
    """Labels are the places brighter than most in one band, so that the image tells them."""
    bright = whole[0][6] > np.median(whole[0][6][whole[1]])
    rows, cols = np.nonzero(whole[1])
    labels = labels_of(rows, cols, bright[rows, cols], np.arange(rows.size) // 40)
    mosaic, anchors, _ = read_around(stack, labels, 32, seed=0)
    crops = Crops(mosaic, labels, anchors, 32).draw(30, np.random.default_rng(1))
    images, targets, valid = stacked(crops)
    known = targets != UNLABELLED
    assert known.float().mean() > 0.7 and (known == valid).all()
    threshold = np.median(whole[0][6][whole[1]])
    assert ((images[:, 6] > threshold) == (targets == 1))[known].all()


def test_labels_of_others_are_not_seen(stack) -> None:
    labels = labels_of([70, 70, 71, 71], [60, 61, 60, 61], [0, 0, 1, 1], [0, 0, 1, 1])
    mosaic, anchors, _ = read_around(stack, labels, 32, seed=0)
    mine = labels.units == 0
    crops = Crops(mosaic, labels.chosen(mine), anchors.chosen(anchors.units == 0), 32)
    for crop in crops.draw(10, np.random.default_rng(0)):
        assert (crop.target != UNLABELLED).sum() == 2 and not (crop.target == 1).any()


def test_small_classes_are_seen_as_often(stack) -> None:
    rows = np.repeat(np.arange(60, 140), 20)
    cols = np.tile(np.arange(60, 80), 80)
    units = rows // 4
    classes = (units == units.max()).astype(np.int64)
    labels = labels_of(rows, cols, classes, units)
    mosaic, anchors, _ = read_around(stack, labels, 8, seed=0)
    crops = Crops(mosaic, labels, anchors, 8).draw(200, np.random.default_rng(0))
    rare = sum((crop.target == 1).any() for crop in crops)
    assert 80 < rare < 140


def test_memory_is_bounded_and_every_class_kept(stack) -> None:
    rows = np.repeat(np.arange(5, 150, 16), 8)
    cols = np.tile(np.arange(5, 130, 16), 10)
    classes = (np.arange(80) >= 76).astype(np.int64)
    labels = labels_of(rows, cols, classes, np.arange(80))
    tile = SIDE**2 * (4 * len(MODEL_BANDS) + 1)
    mosaic, anchors, _ = read_around(stack, labels, 16, seed=0, most_bytes=5 * tile)
    assert len(mosaic._tiles) <= 5
    assert set(anchors.classes) == {0, 1} and 0 < anchors.rows.size < 80
    for crop in Crops(mosaic, labels, anchors, 16).draw(20, np.random.default_rng(0)):
        assert (crop.target != UNLABELLED).any()


def test_no_data_and_cancel(stack) -> None:
    with pytest.raises(EmptyAreaError, match="no data where the labels are"):
        read_around(stack, labels_of([2, 3], [2, 3], [0, 1], [0, 1]), 16, seed=0)
    with pytest.raises(JobCancelled):
        read_around(stack, labels_of([99], [99], [0], [0]), 16, seed=0, cancelled=lambda: True)
