"""Polygons hold every pixel of the map, once, with its class and its true area."""

from __future__ import annotations

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine
from rasterio.crs import CRS
from scenes import UTM

from mmearth.errors import DiskFullError, InputError
from mmearth.raster import polygons, write
from mmearth.raster.area import PixelAreas
from mmearth.raster.grid import Grid
from mmearth.raster.polygons import PolygonClass, write_polygons

NAMES = {value: PolygonClass(f"c{value}", f"Class {value}") for value in range(1, 5)}


def grid_of(values: np.ndarray, crs: CRS = UTM, pixel: float = 10.0) -> Grid:
    origin = (600_000, 5_400_000) if crs == UTM else (10.0, 52.0)
    return Grid(crs, Affine(pixel, 0, origin[0], 0, -pixel, origin[1]), *values.shape[::-1])


def make(tmp_path, values, grid, *, confidence=None, minimum_area_ha=0.0):
    """Write polygons of a class map; return their attributes and geometries."""
    confidence = np.full(values.shape, 80, np.uint8) if confidence is None else confidence
    layers = {"classes": ("class",), "percent": ("confidence",)}
    paths = {}
    for kind, array in (("classes", values), ("percent", confidence)):
        paths[kind] = tmp_path / f"{kind}.tif"
        write.create_working(paths[kind], grid, write.Layer(kind, layers[kind], {}))
        write.write_rows(paths[kind], 0, array[None])
    target = tmp_path / "areas.gpkg"
    count = write_polygons(
        paths["classes"], paths["percent"], target, grid, NAMES,
        minimum_area_ha=minimum_area_ha, scratch=tmp_path,
    )  # fmt: skip
    meta, _, wkb, columns = pyogrio.raw.read(target)
    table = dict(zip(meta["fields"], columns, strict=True))
    assert len(wkb) == count
    return table, shapely.from_wkb(wkb), meta


def burnt(geometries, values, grid):
    """Return the map that polygons draw."""
    shapes = zip(geometries, values, strict=True)
    return rasterio.features.rasterize(
        shapes, (grid.height, grid.width), transform=grid.transform, dtype="uint8"
    )


@pytest.fixture(params=["noise", "blocks", "spiral"])
def values(request) -> np.ndarray:
    random = np.random.default_rng(3)
    if request.param == "noise":
        return random.integers(0, 5, (90, 70)).astype(np.uint8)
    if request.param == "blocks":
        return np.kron(random.integers(0, 5, (9, 7)), np.ones((10, 10))).astype(np.uint8)
    spiral = np.ones((61, 61), np.uint8)
    for ring in range(0, 30, 4):
        spiral[ring : 61 - ring, ring + 1] = 2
        spiral[61 - ring - 1, ring : 61 - ring] = 2
    return spiral


@pytest.mark.parametrize("block_rows", [7, 512])
def test_pixel_exact_whatever_the_blocks(tmp_path, monkeypatch, values, block_rows) -> None:
    monkeypatch.setattr(polygons, "BLOCK_ROWS", block_rows)
    grid = grid_of(values)
    table, geometries, _ = make(tmp_path, values, grid)
    np.testing.assert_array_equal(burnt(geometries, table["class"], grid), values)
    for value in range(1, 5):
        assert table["pixels"][table["class"] == value].sum() == (values == value).sum()
    np.testing.assert_allclose(shapely.area(geometries), table["pixels"] * 100)
    assert shapely.is_valid(geometries).all()
    assert {shape.geom_type for shape in geometries} == {"Polygon"}


def test_areas_are_those_of_the_ellipsoid(tmp_path) -> None:
    values = np.kron(np.array([[1, 2], [3, 4]]), np.ones((40, 40))).astype(np.uint8)
    grid = grid_of(values, CRS.from_epsg(4326), pixel=1e-4)
    table, _, _ = make(tmp_path, values, grid)
    areas = PixelAreas(grid).rows(0, 80)
    for value in range(1, 5):
        expected = areas[values == value].sum() / 10_000
        assert table["area_ha"][table["class"] == value].sum() == pytest.approx(expected, rel=1e-9)


def test_confidence_is_the_mean_of_the_region(tmp_path) -> None:
    values = np.ones((20, 20), np.uint8)
    values[:, 10:] = 2
    confidence = np.full((20, 20), 60, np.uint8)
    confidence[:10, 10:] = 90
    table, _, _ = make(tmp_path, values, grid_of(values), confidence=confidence)
    found = dict(zip(table["class"], table["confidence"], strict=True))
    assert found == {1: pytest.approx(0.6), 2: pytest.approx(0.75)}


def test_attributes_and_crs(tmp_path) -> None:
    values = np.full((5, 5), 3, np.uint8)
    table, _, meta = make(tmp_path, values, grid_of(values))
    assert meta["crs"] == "EPSG:32632"
    assert (table["name"][0], table["title"][0]) == ("c3", "Class 3")


def test_small_polygons_join_their_neighbours(tmp_path) -> None:
    values = np.ones((40, 40), np.uint8)
    values[10, 10] = 2  # 0.01 ha
    values[20:30, 20:30] = 3  # 1 ha
    table, _, _ = make(tmp_path, values, grid_of(values), minimum_area_ha=0.5)
    assert sorted(table["class"]) == [1, 3]
    assert table["pixels"].sum() == values.size


def test_more_polygons_than_a_batch(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(polygons, "BATCH", 50)
    values = np.random.default_rng(0).integers(0, 3, (40, 40)).astype(np.uint8)
    grid = grid_of(values)
    table, geometries, _ = make(tmp_path, values, grid)
    np.testing.assert_array_equal(burnt(geometries, table["class"], grid), values)


def test_cancelling_leaves_no_file(tmp_path) -> None:
    values = np.ones((20, 20), np.uint8)
    calls = []

    def cancelled() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    grid = grid_of(values)
    for kind in ("classes", "percent"):
        write.create_working(tmp_path / f"{kind}.tif", grid, write.Layer(kind, ("b",), {}))
        write.write_rows(tmp_path / f"{kind}.tif", 0, values[None])
    with pytest.raises(InterruptedError):
        write_polygons(
            tmp_path / "classes.tif", tmp_path / "percent.tif", tmp_path / "areas.gpkg", grid,
            NAMES, scratch=tmp_path, cancelled=cancelled,
        )  # fmt: skip
    assert not list(tmp_path.glob("*.gpkg")) and not list(tmp_path.glob(".*.gpkg"))


def test_a_minimum_beyond_the_map_finds_nothing_to_join(tmp_path) -> None:
    values = np.ones((20, 20), np.uint8)
    values[5:8, 5:8] = 2
    table, _, _ = make(tmp_path, values, grid_of(values), minimum_area_ha=1e9)
    assert sorted(table["pixels"]) == [9, 391]


def test_a_single_pixel_can_be_below_the_minimum(tmp_path) -> None:
    values = np.ones((1, 1), np.uint8)
    table, _, _ = make(tmp_path, values, grid_of(values), minimum_area_ha=5.0)
    assert list(table["pixels"]) == [1]


@pytest.mark.parametrize("area", [float("inf"), float("nan")])
def test_a_minimum_that_is_no_number_is_refused(tmp_path, area) -> None:
    values = np.ones((5, 5), np.uint8)
    with pytest.raises(InputError, match="where hectares are expected"):
        make(tmp_path, values, grid_of(values), minimum_area_ha=area)


@pytest.mark.parametrize("full", ["scratch", "target", "sieved"])
def test_a_full_disk_is_said(tmp_path, small_disk, full) -> None:
    values = np.random.default_rng(0).integers(1, 5, (600, 600)).astype(np.uint8)
    grid = grid_of(values)
    for kind in ("classes", "percent"):
        write.create_working(tmp_path / f"{kind}.tif", grid, write.Layer(kind, ("b",), {}))
        write.write_rows(tmp_path / f"{kind}.tif", 0, values[None])
    if full == "sieved":
        (small_disk / "ballast").write_bytes(bytes(900_000))
    with pytest.raises(DiskFullError):
        write_polygons(
            tmp_path / "classes.tif", tmp_path / "percent.tif",
            (small_disk if full == "target" else tmp_path) / "areas.gpkg", grid, NAMES,
            minimum_area_ha=0.05 if full == "sieved" else 0.0,
            scratch=tmp_path if full == "target" else small_disk,
        )  # fmt: skip
    assert not list(tmp_path.glob("**/*areas*"))
