"""Results are Cloud-Optimised GeoTIFFs, complete or not there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from affine import Affine
from scenes import UTM

from mmearth.errors import DiskFullError, OutputError
from mmearth.raster import write
from mmearth.raster.grid import Grid

GRID = Grid(UTM, Affine(10, 0, 600_000, 0, -10, 5_400_000), 700, 1300)
PALETTE = {1: ((65, 155, 223), "Water"), 3: ((57, 125, 73), "Trees & shrubs")}
CLASSES = write.Layer("classes", ("class",), {"MMEARTH_MODEL": "tiny"}, PALETTE)
PERCENT = write.Layer("percent", ("water", "trees"), {"MMEARTH_MODEL": "tiny"})


def pixels(bands: int) -> np.ndarray:
    return np.random.default_rng(0).choice([0, 1, 3], (bands, GRID.height, GRID.width)).astype("u1")


def published(tmp_path, layer):
    working, target = tmp_path / "work" / "w.tif", tmp_path / "map.tif"
    write.create_working(working, GRID, layer)
    values = pixels(len(layer.bands))
    for start in range(0, GRID.height, 300):
        write.write_rows(working, start, values[:, start : start + 300])
    write.publish(working, target, layer)
    return target, values


def test_class_map(tmp_path) -> None:
    target, values = published(tmp_path, CLASSES)
    with rasterio.open(target) as dataset:
        np.testing.assert_array_equal(dataset.read(), values)
        assert dataset.nodata == 0
        assert dataset.crs == UTM and dataset.transform == GRID.transform
        assert dataset.descriptions == ("class",)
        assert dataset.tags()["MMEARTH_MODEL"] == "tiny"
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.colormap(1)[3] == (57, 125, 73, 255)
        assert dataset.overviews(1)
        with rasterio.open(target, overview_level=0) as overview:
            assert set(np.unique(overview.read())) <= {0, 1, 3}  # never an average of classes


def test_category_names_lie_where_gdal_reads_them(tmp_path) -> None:
    target, _ = published(tmp_path, CLASSES)
    names = ElementTree.parse(f"{target}.aux.xml").findall(".//Category")
    assert [name.text or "" for name in names] == ["", "Water", "", "Trees & shrubs"]


def test_percent_map(tmp_path) -> None:
    target, values = published(tmp_path, PERCENT)
    with rasterio.open(target) as dataset:
        np.testing.assert_array_equal(dataset.read(), values)
        assert dataset.scales == (0.01, 0.01)
        assert dataset.nodata == 255
        assert dataset.descriptions == ("water", "trees")
    assert not os.path.exists(f"{target}.aux.xml")


def test_nothing_but_the_result_is_left(tmp_path) -> None:
    target, _ = published(tmp_path, CLASSES)
    left = {path.name for path in tmp_path.iterdir()} - {"work"}
    assert left == {target.name, f"{target.name}.aux.xml"}


def test_failure_leaves_the_old_result_and_nothing_else(tmp_path) -> None:
    target = tmp_path / "map.tif"
    target.write_text("yesterday's")
    with pytest.raises(RuntimeError), write.staged(target) as temporary:
        temporary.write_text("half of today's")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]
    assert target.read_text() == "yesterday's"


def test_missing_folder_is_said(tmp_path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write.check_writable([tmp_path / "nowhere" / "map.tif"], 1)


def test_folder_without_permission_is_said(unprivileged) -> None:
    # Not in tmp_path, into which only its owner can look.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with unprivileged(), pytest.raises(OutputError, match="No permission"):
            write.check_writable([Path(folder) / "map.tif"], 1)


def test_too_little_space_is_said(tmp_path) -> None:
    with pytest.raises(DiskFullError, match="are needed"):
        write.check_writable([tmp_path / "map.tif"], 2**60)


def test_disk_that_fills_up_is_said(small_disk) -> None:
    working = small_disk / "work.tif"
    write.create_working(working, GRID, PERCENT)
    rows = np.random.default_rng(0).integers(0, 100, (2, 1300, 700), np.uint8)
    with pytest.raises(DiskFullError):
        write.write_rows(working, 0, rows)


def test_publishing_to_a_full_disk_leaves_nothing(tmp_path, small_disk) -> None:
    working = tmp_path / "w.tif"
    write.create_working(working, GRID, PERCENT)
    write.write_rows(working, 0, np.random.default_rng(0).integers(0, 100, (2, 1300, 700), "u1"))
    with pytest.raises(DiskFullError):
        write.publish(working, small_disk / "map.tif", PERCENT)
    assert list(small_disk.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def unprivileged():
    """Return a context in which this process is not root, whom no permission stops."""

    @contextlib.contextmanager
    def nobody():
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(was)

    return nobody
