"""Results are Cloud-Optimised GeoTIFFs, complete or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from affine import Affine
from scenes import UTM

from mmearth.errors import DiskFullError, OutputError
from mmearth.files import staged
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
    with pytest.raises(RuntimeError), staged(target) as temporary:
        temporary.write_text("half of today's")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]
    assert target.read_text() == "yesterday's"


OLD = {"map.tif": "old map", "map.tif.aux.xml": "old names", "areas.csv": "old areas"}
NEW = {"map.tif": "new map", "areas.csv": "new areas", "more.tif": "new", "more.tif.aux.xml": "new"}


def staging(folder) -> write.Staging:
    names = {"classes": "map.tif", "table": "areas.csv", "more": "more.tif"}
    return write.Staging({name: folder / file for name, file in names.items()}, "work")


def build(folder) -> write.Staging:
    """Put old results in a folder and build new ones beside them."""
    folder.mkdir(exist_ok=True)
    for name, text in OLD.items():
        (folder / name).write_text(text)
    built = staging(folder)
    hidden = built.path("classes").parent
    for name, text in NEW.items():
        (hidden / name).write_text(text)
    return built


def content(folder) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_results_appear_together_and_take_what_belonged_to_the_old_along(tmp_path) -> None:
    built = build(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*OLD, ".mmearth-work"}
    built.publish()
    assert content(tmp_path) == NEW  # without the names of the old map's classes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="stops a copy of this process")
def test_killed_at_any_moment_results_are_all_old_or_all_new(tmp_path) -> None:
    found = []
    for moment in range(20):
        folder = tmp_path / str(moment)
        built = build(folder)
        child = os.fork()
        if child == 0:
            _die_at(moment)
            built.publish()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        staging(folder).remove()  # as the next run does
        found.append(content(folder))
        assert found[-1] in (OLD, NEW), moment
        if status == 0:
            break
    assert status == 0 and found[0] == OLD and found[-1] == NEW and len(found) > 5


def _die_at(moment: int) -> None:
    """End this process at its so-manieth renaming of a file."""
    left, replace = [moment], os.replace

    def dying(*names) -> None:
        if left[0] == 0:
            os._exit(1)
        left[0] -= 1
        replace(*names)

    os.replace = dying


def test_failing_later_result_leaves_the_earlier_old_ones(unprivileged) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs a file of another user")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "open"
        folder.mkdir()
        (Path(name) / "sticky").mkdir()
        old = [folder / "map.tif", Path(name) / "sticky" / "areas.csv"]
        for path in old:
            path.write_text("old")
        # In a sticky folder only its owner may replace a file.
        Path(name).chmod(0o755)
        folder.chmod(0o777)
        (Path(name) / "sticky").chmod(0o1777)
        with unprivileged():
            built = write.Staging({"classes": old[0], "table": old[1]}, "work")
            for key in ("classes", "table"):
                built.path(key).write_text("new")
            with pytest.raises(OutputError, match=r"No permission to write .*areas\.csv"):
                built.publish()
        assert [path.read_text() for path in old] == ["old", "old"]
        assert {path.name for path in Path(name).rglob("*")} == {
            "open", "sticky", "map.tif", "areas.csv",
        }  # fmt: skip


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_open_geopackage_is_refused(tmp_path, ending) -> None:
    (tmp_path / f"p.gpkg{ending}").touch()
    with pytest.raises(OutputError, match=f"open in another program.*p.gpkg{ending}"):
        write.check_writable([tmp_path / "p.gpkg"], 1)


def test_folder_in_the_place_of_a_result_is_said(tmp_path) -> None:
    (tmp_path / "map.tif").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write.check_writable([tmp_path / "map.tif"], 1)


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
