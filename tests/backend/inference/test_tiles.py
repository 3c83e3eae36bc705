"""Tiles cover every pixel, overlap enough, and their weights add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmearth.inference.tiles import Axis, Layout

axes = st.builds(
    lambda length, tile, share, stride: Axis(length, tile, int(np.ceil(tile * share)), stride),
    st.integers(1, 3000),
    st.sampled_from([32, 64, 256]),
    st.floats(0.25, 0.5),
    st.sampled_from([1, 2, 8, 16]),
)


@given(axes)
def test_every_pixel_is_covered(axis: Axis) -> None:
    covered = np.zeros(axis.length, bool)
    for start in axis.starts:
        covered[max(0, start) : max(0, start + axis.tile)] = True
    assert covered.all()


@given(axes)
def test_neighbours_overlap_by_at_least_what_is_asked(axis: Axis) -> None:
    steps = np.diff(axis.starts)
    assert (steps > 0).all()
    assert (axis.tile - steps >= axis.overlap).all()


@given(axes)
def test_all_tiles_lie_on_the_strides_of_the_scene(axis: Axis) -> None:
    assert all(start % axis.stride == 0 for start in axis.starts)


@given(axes)
def test_the_rim_of_the_scene_is_never_the_rim_of_a_tile(axis: Axis) -> None:
    assert axis.starts[0] <= -(axis.overlap // 2)
    assert axis.starts[-1] + axis.tile >= axis.length + axis.overlap // 2


@given(axes)
def test_no_tile_is_in_vain(axis: Axis) -> None:
    """One tile fewer could not cover the scene, its reflected rim and the overlaps."""
    fewer = len(axis.starts) - 1
    step = (axis.tile - axis.overlap) // axis.stride * axis.stride
    reach = axis.tile + (fewer - 1) * step
    assert fewer == 0 or reach < axis.length + axis.overlap + 2 * axis.stride


@given(axes)
def test_weights_add_up_to_the_total(axis: Axis) -> None:
    total = np.zeros(axis.length)
    for start in axis.starts:
        for offset, weight in enumerate(axis.taper):
            if 0 <= start + offset < axis.length:
                total[start + offset] += weight
    np.testing.assert_allclose(total, axis.total, rtol=1e-5)
    assert (axis.total > 0).all()


@given(axes)
def test_tiles_show_the_scene_and_its_reflection(axis: Axis) -> None:
    padded = np.pad(np.arange(axis.length), (axis.tile * 2, axis.tile * 2), "reflect")
    for start in axis.starts:
        expected = padded[start + 2 * axis.tile :][: axis.tile]
        np.testing.assert_array_equal(axis.mirrored(start), expected)


@given(st.integers(1, 900), st.integers(1, 900))
def test_rows_finish_in_order_and_all_of_them(height: int, width: int) -> None:
    layout = Layout.of(height, width, 64)
    finished = [layout.finished_rows(n) for n in range(len(layout.rows.starts))]
    assert finished == sorted(finished)
    assert finished[-1] == height
    assert layout.count == len(layout.rows.starts) * len(layout.cols.starts)


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.6])
def test_bad_overlaps_are_refused(overlap: float) -> None:
    with pytest.raises(ValueError, match="overlap"):
        Layout.of(100, 100, 64, overlap=overlap)


@pytest.mark.parametrize(("tile", "least", "expected"), [(256, 0, 64), (256, 96, 96), (64, 96, 32)])
def test_a_network_that_sees_far_gets_more_overlap(tile, least, expected) -> None:
    layout = Layout.of(1000, 1000, tile, least=least, stride=16)
    assert (layout.rows.overlap, layout.cols.overlap) == (expected, expected)
