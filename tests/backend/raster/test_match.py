"""Bands are matched by name, alias, then wavelength; nothing is guessed."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from mmearth.api import BandChoice, MatchState, RasterInput
from mmearth.errors import BandMatchError, InputError
from mmearth.raster.match import match_bands, require_all
from mmearth.raster.source import list_bands
from mmearth.sensors import load_sensor

S2 = load_sensor("sentinel-2")
WANTED = ["B02", "B03", "B04", "B08"]
PIXELS = np.full((4, 8, 8), 1000, np.uint16)


def sources(*paths, labels=None):
    labels = labels or [""] * len(paths)
    return list_bands(
        [RasterInput(path=str(p), label=y) for p, y in zip(paths, labels, strict=True)]
    )


def states(matches):
    return [match.state for match in matches]


def test_by_name_whatever_the_order(make_raster) -> None:
    path = make_raster("s.tif", PIXELS, bands=["B8", "B4", "B3", "B2"])
    matches = match_bands(sources(path), WANTED, S2)
    assert states(matches) == [MatchState.exact] * 4
    assert [match.source.index for match in matches] == [4, 3, 2, 1]


def test_by_file_name_of_single_bands(make_raster) -> None:
    paths = [make_raster(f"T32_{name}_10m.tif", PIXELS[:1]) for name in WANTED]
    matches = match_bands(sources(*paths), WANTED, S2)
    assert states(matches) == [MatchState.exact] * 4
    assert [match.source.input for match in matches] == [0, 1, 2, 3]


def test_by_layer_name_when_the_file_says_nothing(make_raster) -> None:
    paths = [make_raster(f"{n}.tif", PIXELS[:1]) for n in range(4)]
    matches = match_bands(sources(*paths, labels=WANTED), WANTED, S2)
    assert states(matches) == [MatchState.exact] * 4


def test_file_name_does_not_speak_for_many_bands(make_raster) -> None:
    path = make_raster("B04.tif", PIXELS[:3])
    assert states(match_bands(sources(path), ["B04"], S2)) == [MatchState.missing]


def test_aliases_are_likely(make_raster) -> None:
    path = make_raster("s.tif", PIXELS, bands=["blue", "green", "red", "nir"])
    matches = match_bands(sources(path), WANTED, S2)
    assert states(matches) == [MatchState.likely] * 4
    require_all(matches)


@pytest.mark.parametrize("unit", [("nm", 1.0), ("Micrometers", 0.001), ("", 0.001)])
def test_wavelengths_are_likely(make_raster, unit) -> None:
    name, factor = unit
    tags = [
        {"wavelength": f"{nm * factor}", **({"wavelength_units": name} if name else {})}
        for nm in (490, 560, 665, 833)
    ]
    path = make_raster("s.tif", PIXELS, band_tags=tags)
    matches = match_bands(sources(path), WANTED, S2)
    assert states(matches) == [MatchState.likely] * 4
    assert "665 nm" in matches[2].reason


def test_wavelength_beyond_tolerance_is_missing(make_raster) -> None:
    path = make_raster("s.tif", PIXELS[:1], band_tags=[{"wavelength": "685"}])
    assert states(match_bands(sources(path), ["B04"], S2)) == [MatchState.missing]


def test_nearest_band_wins_a_wavelength(make_raster) -> None:
    # 850 nm is within 15 nm of B8A (865) but nearer to it than to B08 (833).
    path = make_raster("s.tif", PIXELS[:1], band_tags=[{"wavelength": "852"}])
    assert states(match_bands(sources(path), ["B08", "B8A"], S2)) == [
        MatchState.missing,
        MatchState.likely,
    ]


def test_two_that_fit_are_shown_not_guessed(make_raster) -> None:
    first = make_raster("a.tif", PIXELS, bands=WANTED)
    second = make_raster("b.tif", PIXELS[:1], bands=["B04"])
    matches = match_bands(sources(first, second), WANTED, S2)
    assert matches[2].state is MatchState.ambiguous
    assert [(c.input, c.index) for c in matches[2].candidates] == [(0, 3), (1, 1)]
    with pytest.raises(BandMatchError, match=r"found more than once: B04 \(red\)"):
        require_all(matches)


def test_position_is_only_suggested(make_raster) -> None:
    path = make_raster("s.tif", PIXELS)
    matches = match_bands(sources(path), WANTED, S2)
    assert states(matches) == [MatchState.suggested] * 4
    with pytest.raises(BandMatchError, match="only by position"):
        require_all(matches)


def test_position_is_not_suggested_for_files_that_name_some_bands(make_raster) -> None:
    path = make_raster("s.tif", PIXELS, bands=["B02", "B03", "B04", "elevation"])
    assert match_bands(sources(path), WANTED, S2)[3].state is MatchState.missing


def test_the_users_choice_wins(make_raster) -> None:
    path = make_raster("s.tif", PIXELS, bands=WANTED)
    choice = BandChoice(band="B04", input=0, index=1)
    match = match_bands(sources(path), WANTED, S2, choices=[choice])[2]
    assert (match.state, match.source.index) == (MatchState.exact, 1)


def test_missing_bands_are_named(make_raster) -> None:
    path = make_raster("s.tif", PIXELS[:2], bands=["B02", "B03"])
    with pytest.raises(
        BandMatchError, match=r"2 of the model's 4 bands not found: B04 \(red\), B08"
    ):
        require_all(match_bands(sources(path), WANTED, S2))


@pytest.mark.parametrize(
    "choice", [BandChoice(band="B04", input=3, index=1), BandChoice(band="B99", input=0, index=1)]
)
def test_impossible_choices_are_refused(make_raster, choice) -> None:
    path = make_raster("s.tif", PIXELS, bands=WANTED)
    with pytest.raises(InputError):
        match_bands(sources(path), WANTED, S2, choices=[choice])


def test_a_leading_alpha_band_takes_no_position(make_raster) -> None:
    path = make_raster("s.tif", np.full((5, 8, 8), 1000, np.uint16))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.alpha, *[ColorInterp.undefined] * 4]
    matches = match_bands(sources(path), WANTED, S2)
    assert states(matches) == [MatchState.suggested] * 4
    assert [match.source.index for match in matches] == [2, 3, 4, 5]


@pytest.mark.parametrize("name", ["Band {}", "band_{}", "BAND{}"])
def test_numbered_bands_are_only_positions(make_raster, name) -> None:
    path = make_raster("s.tif", PIXELS, bands=[name.format(n) for n in range(1, 5)])
    matches = match_bands(sources(path), WANTED, S2)
    assert states(matches) == [MatchState.suggested] * 4
    assert [match.source.index for match in matches] == [1, 2, 3, 4]


def test_numbers_that_may_only_count_the_bands_are_only_positions(make_raster) -> None:
    path = make_raster("s.tif", PIXELS, bands=["B1", "B2", "B3", "B4"])
    matches = match_bands(sources(path), WANTED, S2)
    assert states(matches) == [MatchState.suggested] * 4
    assert [match.source.index for match in matches] == [1, 2, 3, 4]


@pytest.mark.parametrize("count", [8, 11, 230])
def test_numbers_of_unusual_stacks_are_not_believed(make_raster, count: int) -> None:
    """As of Landsat 7 with its panchromatic band, of Landsat 8, and of a spectrometer."""
    names = [f"B{number}" for number in range(1, count + 1)]
    path = make_raster("s.tif", np.full((count, 8, 8), 1000, np.uint16), bands=names)
    assert states(match_bands(sources(path), WANTED, S2)) == [MatchState.missing] * 4


def test_numbers_are_names_where_another_file_names_the_rest(make_raster) -> None:
    first = make_raster("a.tif", PIXELS, bands=["B1", "B2", "B3", "B4"])
    second = make_raster("b.tif", PIXELS, bands=["B5", "B8", "B8A", "B11"])
    matches = match_bands(sources(first, second), WANTED, S2)
    assert states(matches) == [MatchState.exact] * 4
    assert [match.source.index for match in matches] == [2, 3, 4, 2]


def test_numbers_as_the_sensor_spells_them_are_names(make_raster) -> None:
    path = make_raster("s.tif", PIXELS, bands=["B01", "B02", "B03", "B04"])
    matches = match_bands(sources(path), WANTED, S2)
    assert states(matches) == [MatchState.exact] * 3 + [MatchState.missing]


def test_the_usual_numbers_of_a_sensor_are_names(make_raster) -> None:
    names = [f"B{number}" for number in range(1, 8)]
    path = make_raster("s.tif", np.full((7, 8, 8), 1000, np.uint16), bands=names)
    matches = match_bands(sources(path), ["B02", "B05"], load_sensor("landsat-8-9"))
    assert states(matches) == [MatchState.exact] * 2


def test_wavelengths_tell_that_numbers_are_names(make_raster) -> None:
    tags = [{"wavelength": str(nm), "wavelength_units": "nm"} for nm in (443, 492, 560, 665)]
    path = make_raster("s.tif", PIXELS, bands=["B1", "B2", "B3", "B4"], band_tags=tags)
    matches = match_bands(sources(path), WANTED[:3], S2)
    assert states(matches) == [MatchState.exact] * 3


def test_short_names_stay_names(make_raster) -> None:
    path = make_raster("s.tif", PIXELS, bands=["B2", "B03", "B4", "B1"])
    matches = match_bands(sources(path), WANTED, S2)
    assert states(matches) == [MatchState.exact] * 3 + [MatchState.missing]
