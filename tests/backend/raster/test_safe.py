"""Sentinel-2 products: radiometry from the metadata, never from the date."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import rasterio
from products import write_product

from mmearth.api import MatchState, RasterInput
from mmearth.errors import RasterReadError
from mmearth.raster.match import match_bands
from mmearth.raster.radiometry import scale_bands
from mmearth.raster.source import list_bands
from mmearth.raster.stack import RasterStack, target_grid
from mmearth.sensors import load_sensor

S2 = load_sensor("sentinel-2")
WANTED = ["B02", "B04", "B8A", "B11"]


def read(*paths):
    sources = list_bands([RasterInput(path=str(path), label="") for path in paths])
    matches = match_bands(sources, WANTED, S2)
    assert [match.state for match in matches] == [MatchState.exact] * 4
    by_place = {(source.input, source.index): source for source in sources}
    chosen = [by_place[match.source.input, match.source.index] for match in matches]
    bands, warnings = scale_bands(chosen, S2)
    with RasterStack(bands, target_grid(chosen, 10.0)) as stack:
        image, valid = stack.read_rows(0, stack.grid.height)
    assert warnings == []
    return chosen, image, valid


@pytest.mark.parametrize("level", ["1C", "2A"])
@pytest.mark.parametrize(("offset", "expected"), [(-1000, 0.2), (None, 0.3), (0, 0.3)])
def test_offset_is_read_from_the_metadata(tmp_path, level, offset, expected) -> None:
    _, image, valid = read(write_product(tmp_path, level, offset=offset))
    assert valid.any()
    np.testing.assert_allclose(image[:, valid], expected, atol=1e-6)


def test_quantification_is_read_from_the_metadata(tmp_path) -> None:
    safe = write_product(tmp_path, "2A", offset=-1000, quantification=20_000)
    _, image, valid = read(safe)
    np.testing.assert_allclose(image[:, valid], 0.1, atol=1e-6)


def test_zero_is_nodata_before_the_offset_is_added(tmp_path) -> None:
    _, image, valid = read(write_product(tmp_path, "2A", offset=-1000))
    assert not valid[:, :6].any() and valid[:, 12:].all()
    assert (image[:, ~valid] == 0).all()


def test_the_finest_image_of_each_band_is_taken(tmp_path) -> None:
    chosen, _, _ = read(write_product(tmp_path, "2A", offset=-1000))
    assert [source.grid.transform.a for source in chosen] == [10, 10, 20, 20]


def test_bands_are_not_mixed_up(tmp_path) -> None:
    values = {"B02": 1500, "B04": 2000, "B8A": 4000, "B11": 3500, "B08": 3900}
    _, image, valid = read(write_product(tmp_path, "1C", offset=-1000, values=values))
    found = [float(np.median(band[valid])) for band in image]
    assert found == pytest.approx([0.05, 0.1, 0.3, 0.25], abs=1e-6)


def test_metadata_file_stands_for_its_product(tmp_path) -> None:
    safe = write_product(tmp_path, "2A", offset=-1000)
    _, image, valid = read(safe / "MTD_MSIL2A.xml")
    np.testing.assert_allclose(image[:, valid], 0.2, atol=1e-6)


def test_single_images_know_their_product(tmp_path) -> None:
    safe = write_product(tmp_path, "2A", offset=-1000)
    images = [next(safe.glob(f"**/R20m/*_{band}_20m.jp2")) for band in WANTED]
    _, image, valid = read(*images)
    np.testing.assert_allclose(image[:, valid], 0.2, atol=1e-6)


def test_images_missing_from_the_folder_are_said(tmp_path) -> None:
    safe = write_product(tmp_path, "1C", offset=-1000)
    for image in safe.glob("**/*.jp2"):
        image.unlink()
    with pytest.raises(RasterReadError, match="none of the image files"):
        list_bands([RasterInput(path=str(safe), label="")])


def test_missing_metadata_is_said(tmp_path) -> None:
    safe = write_product(tmp_path, "1C", offset=-1000)
    (safe / "MTD_MSIL1C.xml").unlink()
    with pytest.raises(RasterReadError, match="lacks its metadata"):
        list_bands([RasterInput(path=str(safe), label="")])


@pytest.mark.parametrize(
    ("text", "replacement"),
    [('unit="none">10000<', 'unit="none">many<'), ("</n1:General_Info>", "")],
)
def test_damaged_metadata_is_said(tmp_path, text, replacement) -> None:
    safe = write_product(tmp_path, "2A", offset=-1000)
    path = safe / "MTD_MSIL2A.xml"
    path.write_text(path.read_text().replace(text, replacement))
    with pytest.raises(RasterReadError, match="cannot be read"):
        list_bands([RasterInput(path=str(safe), label="")])


def test_entities_that_explode_are_refused(tmp_path) -> None:
    safe = write_product(tmp_path, "2A", offset=-1000)
    path = safe / "MTD_MSIL2A.xml"
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
    path.write_text(path.read_text().replace("?>", f"?>{bomb}", 1))
    with pytest.raises(RasterReadError, match="cannot be read"):
        list_bands([RasterInput(path=str(safe), label="")])


def test_rasters_beside_a_product_are_not_its_images(tmp_path, make_raster) -> None:
    safe = write_product(tmp_path, "2A", offset=-1000)
    values = np.full((1, 40, 40), 3000, np.uint16)
    own = make_raster(f"{safe.name}/own/stack.tif", values, bands=["B04"], nodata=7)
    (source,) = list_bands([RasterInput(path=str(own), label="")])
    assert (source.scale, source.offset, source.nodata) == (None, 0.0, 7)


def test_a_scale_that_an_image_states_wins(tmp_path) -> None:
    safe = write_product(tmp_path, "2A", offset=-1000)
    image = next(safe.glob("**/R10m/*_B04_10m.jp2"))
    with rasterio.open(image) as dataset:
        profile, values = dataset.profile, dataset.read()
    image.unlink()
    profile.update(driver="GTiff")
    with rasterio.open(image.with_suffix(".tif"), "w", **profile) as dataset:
        dataset.write(values)
        dataset.scales, dataset.offsets = [0.0002], [0.05]
    (source,) = list_bands([RasterInput(path=str(image.with_suffix(".tif")), label="")])
    assert (source.scale, source.offset) == (0.0002, 0.05)
    assert source.nodata == 0


def test_several_tiles_are_refused(tmp_path) -> None:
    safe = write_product(tmp_path, "1C", offset=-1000)
    (tile,) = (safe / "GRANULE").iterdir()
    other = tile.with_name(tile.name.replace("T32TNT", "T32TPT"))
    shutil.copytree(tile, other)
    metadata = safe / "MTD_MSIL1C.xml"
    text = metadata.read_text("utf-8")
    start, stop = text.index("<IMAGE_FILE>"), text.rindex("</IMAGE_FILE>") + len("</IMAGE_FILE>")
    listed = text[start:stop]
    metadata.write_text(
        text[:stop] + listed.replace(f"/{tile.name}/", f"/{other.name}/") + text[stop:], "utf-8"
    )
    with pytest.raises(RasterReadError, match="holds 2 tiles, where one is expected"):
        list_bands([RasterInput(path=str(safe), label="")])
    image = next(other.glob("**/*_B04.jp2"))
    (source,) = list_bands([RasterInput(path=str(image), label="")])
    assert source.offset == pytest.approx(-0.1)
