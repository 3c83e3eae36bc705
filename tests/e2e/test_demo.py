"""``make demo``: what it leaves behind are maps of the sample."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import rasterio
from programs import ROOT, SCENE, in_qgis, run

BEFORE = ROOT / "resources" / "sample" / "boadella_20200621.tif"
LOSS = (0xD7, 0x19, 0x1C)
CARD = json.loads((ROOT / "resources/models/landcover-s2/model.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of results, and what was printed."""
    folder = tmp_path_factory.mktemp("demo") / "results"
    ran = run(in_qgis(ROOT / "tools" / "demo.py", folder))
    assert ran.returncode == 0, ran.stdout
    return folder, ran.stdout


def test_rasters_cover_the_scene(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    with rasterio.open(SCENE) as scene:
        expected = (scene.shape, scene.crs, scene.transform)
    for name in ("landcover.tif", "treemask.tif", "probabilities.tif"):
        with rasterio.open(folder / name) as result:
            assert (result.shape, result.crs, result.transform) == expected


def test_map_knows_this_place(demo: tuple[Path, str]) -> None:
    """A river, fields and woods are there; ice is not."""
    folder, _ = demo
    with rasterio.open(folder / "landcover.tif") as result:
        shares = np.bincount(result.read(1).ravel(), minlength=10) / (512 * 512)
    water, trees, snow = shares[1], shares[2], shares[9]
    fields = shares[3] + shares[5] + shares[6]  # grass, crops, shrub: dry paddies are all of them
    assert shares[0] == 0 and snow < 0.001
    assert 0.05 < water < 0.15 and 0.1 < trees < 0.4 and 0.3 < fields < 0.7


def test_tables_agree_with_the_map(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    with (folder / "areas.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    hectares = {row["title"]: float(row["area_ha"]) for row in rows}
    # 512 x 512 pixels of 100 m2 on the map; the ellipsoid's area differs by the scale of UTM.
    assert sum(hectares.values()) == pytest.approx(2621.44, rel=2e-3)
    with sqlite3.connect(folder / "areas.gpkg") as database:
        (table,) = database.execute("SELECT table_name FROM gpkg_contents").fetchone()
        (total,) = database.execute(f"SELECT SUM(area_ha) FROM {table}").fetchone()
    assert total == pytest.approx(sum(hectares.values()), rel=1e-6)
    for title, area in hectares.items():
        assert re.search(rf"^{re.escape(title)} +{area:,.2f} ", printed, re.MULTILINE)


def test_says_where_the_files_are(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    named = {Path(line.strip()) for line in printed.split("Files:")[1].splitlines() if line.strip()}
    assert named == {
        folder / name
        for name in ("landcover.tif", "probabilities.tif", "areas.gpkg", "areas.csv",
                     "treemask.tif", "change.tif", "change_probability.tif", "changes.gpkg",
                     "change.csv", "map.png")
    }  # fmt: skip
    assert all(path.is_file() for path in named)


def test_change_of_the_two_dates(demo: tuple[Path, str]) -> None:
    """Most of the wood stays, and something is lost; table, picture and polygons show it."""
    folder, printed = demo
    with rasterio.open(folder / "change.tif") as result, rasterio.open(BEFORE) as scene:
        assert (result.shape, result.crs, result.transform) == (
            scene.shape, scene.crs, scene.transform
        )  # fmt: skip
        shares = np.bincount(result.read(1).ravel(), minlength=5) / result.read(1).size
    assert shares[0] == 0 and 0 < shares[2] < shares[1]
    assert re.search(r"^Forest loss +\d+\.\d\d ", printed, re.MULTILINE)
    with sqlite3.connect(folder / "changes.gpkg") as database:
        (table,) = database.execute("SELECT table_name FROM gpkg_contents").fetchone()
        areas = database.execute(f"SELECT area_ha FROM {table} WHERE class = 2").fetchall()
    assert areas and min(areas)[0] >= 0.19  # what was asked for, as measured on the plane
    with rasterio.open(folder / "map.png") as picture:
        pixels = np.moveaxis(picture.read()[:3], 0, -1)
    lower_right = pixels[pixels.shape[0] // 2 :, 2 * pixels.shape[1] // 3 :]
    drawn = (lower_right == LOSS).all(axis=-1).sum() / (96 / 25.4 * 150) ** 2
    assert drawn >= 0.6 * shares[2]


def test_picture_shows_map_and_legend(demo: tuple[Path, str]) -> None:
    """The classes' own colours, about as often as the map has them; and the scene beside."""
    folder, _ = demo
    with rasterio.open(folder / "map.png") as picture:
        pixels = np.moveaxis(picture.read()[:3], 0, -1)
    with rasterio.open(folder / "landcover.tif") as result:
        values = result.read(1)
    # Three squares of equal size in a row; the middle one is the land cover.
    middle = pixels[:, pixels.shape[1] // 3 : 2 * pixels.shape[1] // 3]
    frame = 96 / 25.4 * 150  # side of the map, mm at dots per inch
    for row in CARD["properties"]["mlm:output"][0]["classification:classes"]:
        share = (values == row["value"]).mean()
        colour = [int(row["color_hint"][i : i + 2], 16) for i in (0, 2, 4)]
        drawn = (middle == colour).all(axis=-1).sum() / frame**2
        assert drawn >= 0.6 * share
        assert drawn > 0, f"{row['name']} is not even in the legend"
    left = pixels[:, : pixels.shape[1] // 3]
    assert len(np.unique(left.reshape(-1, 3), axis=0)) > 10_000
