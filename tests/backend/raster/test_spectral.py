"""What files say of wavelengths and names is read wherever it is usual to write it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from scenes import UTM

from mmearth.raster.source import open_raster
from mmearth.raster.spectral import Spectrum, read_spectra

PIXELS = np.full((2, 4, 4), 1000, np.int16)
HEADER = """wavelength units = {unit}
wavelength = {{
 {first}, {second}}}
fwhm = {{ {width}, {width} }}
"""
NANOMETRES = HEADER.format(unit="Nanometers", first=418.24, second=423.874, width=6.99561)
MICROMETRES = HEADER.format(unit="Micrometers", first=0.41824, second=0.423874, width=0.00699561)


def spectra(path):
    with open_raster(str(path)) as dataset:
        return read_spectra(dataset)


def assert_enmap(found):
    assert [spectrum.wavelength_nm for spectrum in found] == pytest.approx([418.24, 423.874])
    assert [spectrum.width_nm for spectrum in found] == pytest.approx([6.99561] * 2)


def stac(bands, key="bands", href="./s.tif", **entries):
    asset = {"href": href, key: bands}
    return {"type": "Feature", "assets": {"other": {"href": "x.tif"}, "data": asset}, **entries}


@pytest.fixture
def envi(tmp_path):
    """Return a function that writes an ENVI raster with more lines in its header."""

    def make(lines):
        path = tmp_path / "s.dat"
        with rasterio.open(
            path, "w", driver="ENVI", dtype="int16", count=2, height=4, width=4,
            crs=UTM, transform=from_origin(600_000, 5_400_000, 30, 30),
        ) as dataset:  # fmt: skip
            dataset.write(PIXELS)
        header = path.with_suffix(".hdr")
        header.write_text(header.read_text().split("band names")[0] + lines)
        return path

    return make


@pytest.mark.parametrize("lines", [NANOMETRES, MICROMETRES])
def test_envi_header(envi, lines) -> None:
    found = spectra(envi(lines))
    assert_enmap(found)
    assert [spectrum.names for spectrum in found] == [(), ()]


def test_band_names_of_an_envi_header(envi) -> None:
    found = spectra(envi(NANOMETRES + "band names = {B04, Band 2}\n"))
    assert_enmap(found)
    assert [spectrum.names for spectrum in found] == [("B04",), ()]


@pytest.mark.parametrize("name", ["s.hdr", "s.tif.hdr"])
def test_envi_header_beside_a_geotiff(make_raster, name) -> None:
    path = make_raster("s.tif", PIXELS)
    path.with_name(name).write_text("ENVI\nbands = 2\n" + NANOMETRES)
    assert_enmap(spectra(path))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "BYTEORDER I\nNBANDS 2\n",  # the header of another format
        "ENVI\nwavelength = {418.24",
        "ENVI\nwavelength = {418.24, 423.874, 429.294}\nwavelength units = Nanometers\n",
        "ENVI\nwavelength = {red, }\n",
        "ENVI\nwavelength = {0, nan}\n",
        "ENVI\nwavelength = {1, 2}\nwavelength units = Index\n",
        "ENVI\nwavelength = {12, 13}\nwavelength units = GHz\n",
    ],
)
def test_a_header_without_wavelengths_says_nothing(make_raster, text) -> None:
    path = make_raster("s.tif", PIXELS)
    path.with_suffix(".hdr").write_text(text)
    assert spectra(path) == [Spectrum(), Spectrum()]


def test_tags_of_bands(make_raster) -> None:
    tags = [
        {"wavelength": nm, "fwhm": "6.99561", "wavelength_units": "Nanometers"}
        for nm in ("418.24", "423.874")
    ]
    assert_enmap(spectra(make_raster("s.tif", PIXELS, band_tags=tags)))


def test_imagery_domain(make_raster) -> None:
    path = make_raster("s.tif", PIXELS)
    with rasterio.open(path, "r+") as dataset:
        for index, um in enumerate(("0.41824", "0.423874"), start=1):
            dataset.update_tags(index, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=um, FWHM_UM="0.00699561")
    assert_enmap(spectra(path))


def test_descriptions_with_wavelengths(make_raster) -> None:
    bands = ["band 1 (418.24 Nanometers)", "B04 423.874 nm"]
    found = spectra(make_raster("s.tif", PIXELS, bands=bands))
    assert found == [Spectrum((), 418.24), Spectrum(("B04",), 423.874)]


@pytest.mark.parametrize("name", ["s.json", "s.tif.json"])
def test_stac_1_1(make_raster, name) -> None:
    path = make_raster("s.tif", PIXELS)
    bands = [
        {
            "name": "B04",
            "eo:common_name": "red",
            "eo:center_wavelength": 0.665,
            "eo:full_width_half_max": 0.031,
        },
        {"name": "Band 2"},
    ]
    path.with_name(name).write_text(json.dumps(stac(bands)))
    [first, second] = spectra(path)
    assert first.names == ("B04", "red")
    assert (first.wavelength_nm, first.width_nm) == pytest.approx((665, 31))
    assert second == Spectrum()


def test_stac_1_0(make_raster) -> None:
    path = make_raster("s.tif", PIXELS)
    bands = [
        {"common_name": "red", "center_wavelength": 0.665, "full_width_half_max": 0.031},
        {"name": "B08"},
    ]
    item = stac(bands, key="eo:bands", href="https://example.com/a%20b/s.tif?token=1")
    path.with_suffix(".json").write_text(json.dumps(item))
    [first, second] = spectra(path)
    assert first.names == ("red",) and first.wavelength_nm == pytest.approx(665)
    assert second.names == ("B08",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"assets": []}',
        '{"assets": {"a": 1}}',
        '{"assets": {"a": {"href": 1, "bands": []}}}',
        "[" * 100_000,
        json.dumps(stac([{"name": "B04"}])),  # one band for two
        json.dumps(stac([0, 1], key="eo:bands")),  # indices, as in STAC before 1.0
        json.dumps(stac("ab")),
        json.dumps(stac([{"name": 4, "eo:center_wavelength": "x"}, {"name": None}])),
        json.dumps(stac([{"eo:center_wavelength": 10**400}, {"eo:center_wavelength": -1}])),
        json.dumps(stac([{"name": "B04"}, {"name": "B08"}], href="other.tif")),
    ],
)
def test_a_damaged_or_foreign_sidecar_is_passed_over(make_raster, text) -> None:
    path = make_raster("s.tif", PIXELS)
    path.with_suffix(".json").write_text(text)
    assert spectra(path) == [Spectrum(), Spectrum()]


def test_a_sidecar_that_is_no_text_is_passed_over(make_raster) -> None:
    path = make_raster("s.tif", PIXELS)
    path.with_suffix(".json").write_bytes(bytes(range(256)))
    path.with_suffix(".hdr").write_bytes(b"ENVI" + bytes(range(256)))
    assert spectra(path) == [Spectrum(), Spectrum()]


def test_the_sidecar_wins_over_tags_and_the_description_over_its_name(make_raster) -> None:
    path = make_raster(
        "s.tif",
        PIXELS,
        bands=["B04", ""],
        band_tags=[{"wavelength": "660"}, {"wavelength": "830"}],
    )
    bands = [{"name": "r", "eo:center_wavelength": 0.665}, {"name": "n"}]
    path.with_suffix(".json").write_text(json.dumps(stac(bands)))
    assert spectra(path) == [Spectrum(("B04", "r"), 665.0), Spectrum(("n",), 830.0)]
