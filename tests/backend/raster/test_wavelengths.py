"""Hyperspectral files are matched by wavelength: the nearest band, and nothing is hidden."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from scenes import UTM

from mmearth.api import BandChoice, MatchState, RasterInput
from mmearth.errors import BandMatchError
from mmearth.raster.match import distant_bands, match_bands, require_all, shared_bands
from mmearth.raster.source import list_bands
from mmearth.sensors import load_sensor

S2 = load_sensor("sentinel-2")
ENMAP = load_sensor("enmap")
ALL = np.array([band.wavelength_nm for band in ENMAP.bands])
WANTED = ENMAP.orders[1]  # the 202 bands of SpectralEarth
PRISMA = np.array([band.wavelength_nm for band in load_sensor("prisma").bands])
CENTRES = np.array([ENMAP.band(name).wavelength_nm for name in WANTED])


@pytest.fixture
def sources(make_raster):
    """Return a function that writes files with bands at these wavelengths and lists them."""

    def make(*files, **options):
        paths = []
        for number, wavelengths in enumerate(files):
            tags = [{"wavelength": f"{nm}", "wavelength_units": "nm"} for nm in wavelengths]
            pixels = np.full((len(tags), 4, 4), 1000, np.int16)
            paths.append(make_raster(f"{number}.tif", pixels, band_tags=tags, **options))
        return list_bands([RasterInput(path=str(path), label="") for path in paths])

    return make


def wavelengths(matches):
    return [match.source.wavelength_nm for match in matches]


def states(matches):
    return {match.state for match in matches}


def test_the_202_of_224_bands_are_found_whatever_their_order(sources) -> None:
    shuffled = np.random.default_rng(0).permutation(ALL)
    matches = match_bands(sources(shuffled), WANTED, ENMAP)
    require_all(matches)
    assert wavelengths(matches) == CENTRES.tolist()
    assert {match.residual_nm for match in matches} == {0.0}
    assert shared_bands(matches) == [] and distant_bands(matches) == []


def test_the_residual_is_told(sources) -> None:
    matches = match_bands(sources(ALL + 1.5), WANTED, ENMAP)
    assert states(matches) == {MatchState.likely}
    assert {match.residual_nm for match in matches} == {1.5}
    assert wavelengths(matches) == pytest.approx(CENTRES + 1.5)
    assert matches[0].reason == "wavelength 420 nm"


@pytest.mark.parametrize("shift", [-4, -3, 3, 4])
def test_a_shifted_sensor_stays_in_order_and_within_tolerance(sources, shift) -> None:
    matches = match_bands(sources(ALL + shift), WANTED, ENMAP)
    assert states(matches) == {MatchState.likely}
    assert (np.diff(wavelengths(matches)) >= 0).all()
    for match in matches:
        assert abs(match.residual_nm) <= ENMAP.band(match.band).tolerance_nm


def test_no_band_is_read_twice_while_another_is_at_hand(sources) -> None:
    # Both 418.2 and 423.9 are nearest to 421.0, but 427.0 does for the second.
    matches = match_bands(sources([421.0, 427.0]), WANTED[:2], ENMAP)
    assert wavelengths(matches) == [421.0, 427.0]
    assert [match.residual_nm for match in matches] == [2.76, 3.13]


def test_a_sensor_of_fewer_bands_shares_them_and_says_so(sources) -> None:
    matches = match_bands(sources(np.arange(415, 2450, 10.0)), WANTED, ENMAP)
    require_all(matches)
    for match in matches:
        assert abs(match.residual_nm) <= 5.0
    [problem] = shared_bands(matches)
    assert problem.code == "shared_bands"
    assert "bands share a band of the raster with another: B002 and B003, B004" in problem.message


def test_what_a_sensor_does_not_see_is_missing(sources) -> None:
    matches = match_bands(sources(ALL[ALL < 1000]), WANTED, ENMAP)
    assert states(matches) == {MatchState.likely, MatchState.missing}
    with pytest.raises(BandMatchError, match=r"101 of the model's 202 .* 85 more\. Add the layers"):
        require_all(matches)


@pytest.fixture
def envi(tmp_path):
    """Return a function that writes an ENVI raster, wavelengths in its header, and lists it."""

    def make(wavelengths):
        path = tmp_path / "prisma.dat"
        with rasterio.open(
            path, "w", driver="ENVI", dtype="int16", count=len(wavelengths), height=4, width=4,
            crs=UTM, transform=from_origin(600_000, 5_400_000, 30, 30),
        ) as dataset:  # fmt: skip
            dataset.write(np.full((len(wavelengths), 4, 4), 1000, np.int16))
        header = path.with_suffix(".hdr")
        stated = ", ".join(f"{nm:.3f}" for nm in wavelengths)
        header.write_text(
            header.read_text().split("band names")[0]
            + f"wavelength units = Nanometers\nwavelength = {{ {stated} }}\n"
        )
        return list_bands([RasterInput(path=str(path), label="")])

    return make


def test_prisma_is_read_by_a_model_of_enmap(envi) -> None:
    sources = envi(PRISMA + 0.37)  # products differ from the nominal wavelengths
    matches = match_bands(sources, WANTED, ENMAP)
    require_all(matches)
    assert states(matches) == {MatchState.likely}
    for match, centre in zip(matches, CENTRES, strict=True):
        assert match.residual_nm == pytest.approx(match.source.wavelength_nm - centre, abs=0.005)
        nearest = np.abs(PRISMA + 0.37 - centre).min()
        assert nearest - 0.005 <= abs(match.residual_nm) <= ENMAP.band(match.band).tolerance_nm
    # PRISMA's bands lie farther apart in the visible than EnMAP's.
    [problem] = shared_bands(matches)
    assert "The raster's bands lie farther apart" in problem.message
    [problem] = distant_bands(matches)
    worst = max(matches, key=lambda match: abs(match.residual_nm))
    assert "202 bands were found by wavelength" in problem.message
    assert f"{worst.band} most: {worst.residual_nm:+.1f} nm" in problem.message


def test_prisma_without_its_second_detector_is_refused(envi) -> None:
    matches = match_bands(envi(PRISMA[:63]), WANTED, ENMAP)
    missing = [match.band for match in matches if match.state is MatchState.missing]
    beyond = [band for band in map(ENMAP.band, WANTED) if band.wavelength_nm > PRISMA[62]]
    assert missing == [b.name for b in beyond if b.wavelength_nm - PRISMA[62] > b.tolerance_nm]
    assert len(missing) > 90
    with pytest.raises(BandMatchError, match=rf"{len(missing)} of the model's 202 bands not found"):
        require_all(matches)


def test_two_scenes_are_shown_not_mixed(sources) -> None:
    matches = match_bands(sources(ALL, ALL + 1), WANTED, ENMAP)
    assert states(matches) == {MatchState.ambiguous}
    assert [(c.input, c.index) for c in matches[0].candidates] == [(0, 1), (1, 1)]


def test_two_dates_in_one_file_are_shown_not_mixed(sources) -> None:
    matches = match_bands(sources([*ALL, *ALL]), WANTED, ENMAP)
    assert states(matches) == {MatchState.ambiguous}
    assert [c.index for c in matches[0].candidates] == [1, 225]


def test_files_of_single_bands_are_one_scene(sources) -> None:
    found = sources(*([nm] for nm in CENTRES[:6] + 1))
    matches = match_bands(found, WANTED[:6], ENMAP)
    assert [match.source.input for match in matches] == [0, 1, 2, 3, 4, 5]


def test_a_multispectral_model_reads_the_nearest_bands(sources) -> None:
    matches = match_bands(sources(ALL), ["B02", "B03", "B04", "B8A"], S2)
    assert states(matches) == {MatchState.likely}
    assert wavelengths(matches) == [491.633, 560.947, 666.435, 863.455]
    assert [match.residual_nm for match in matches] == [-0.77, 1.15, 1.83, -1.25]


def test_numbers_of_another_sensor_do_not_count(sources) -> None:
    # The names are Landsat's, B5 to B7 mean other bands of Sentinel-2.
    landsat = load_sensor("landsat-8-9")
    bands = [f"SR_B{number}" for number in range(1, 8)]
    found = sources([band.wavelength_nm for band in landsat.bands], bands=bands)
    matches = match_bands(found, ["B04", "B05", "B8A", "B11", "B12"], S2)
    assert [match.source and match.source.index for match in matches] == [4, None, 5, 6, 7]
    assert [match.state for match in matches] == [
        MatchState.exact,
        MatchState.missing,
        *[MatchState.likely] * 3,
    ]
    assert matches[0].residual_nm == pytest.approx(-10.28)


def test_a_band_that_is_named_is_not_read_as_another(sources) -> None:
    found = sources([560.0, 664.6, 670.0], bands=["B03", "B04", ""])
    matches = match_bands(found, ["B04", "B05"], S2)
    assert [match.state for match in matches] == [MatchState.exact, MatchState.missing]


def test_without_wavelengths_the_usual_orders_are_suggested(make_raster) -> None:
    for order in ENMAP.orders:
        path = make_raster("s.tif", np.full((len(order), 4, 4), 1000, np.int16))
        found = list_bands([RasterInput(path=str(path), label="")])
        matches = match_bands(found, WANTED, ENMAP)
        assert states(matches) == {MatchState.suggested}
        assert [order[match.source.index - 1] for match in matches] == list(WANTED)
        assert {match.residual_nm for match in matches} == {None}


def test_a_stac_sidecar_names_the_bands(make_raster) -> None:
    path = make_raster("s.tif", np.full((3, 4, 4), 1000, np.uint16))
    bands = [{"name": "B8A"}, {"eo:common_name": "red"}, {"eo:center_wavelength": 0.49}]
    item = {"assets": {"image": {"href": "s.tif", "bands": bands}}}
    path.with_suffix(".json").write_text(json.dumps(item))
    found = list_bands([RasterInput(path=str(path), label="")])
    matches = match_bands(found, ["B02", "B04", "B8A"], S2)
    assert [match.source.index for match in matches] == [3, 2, 1]
    assert [match.state for match in matches] == [
        MatchState.likely,
        MatchState.likely,
        MatchState.exact,
    ]
    assert [match.residual_nm for match in matches] == [-2.4, None, None]


def test_choices_that_share_a_band_are_told_too(sources) -> None:
    choices = [BandChoice(band=name, input=0, index=1) for name in WANTED[:2]]
    matches = match_bands(sources(ALL), WANTED, ENMAP, choices=choices)
    require_all(matches)
    assert [match.residual_nm for match in matches[:3]] == [0.0, -5.63, 0.0]
    [problem] = shared_bands(matches)
    assert "2 of the model's 202 bands" in problem.message
