import pytest

from mmearth.errors import ModelError
from mmearth.sensors import all_sensors, load_sensor

S2 = load_sensor("sentinel-2")
HLS = load_sensor("hls")
ENMAP = load_sensor("enmap")


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("B04", "B04"),
        ("b4", "B04"),
        ("Band 4", "B04"),
        ("B8A", "B8A"),
        ("b08a", "B8A"),
        ("B8", "B08"),
        ("T32TNT_20230601T101559_B11_20m", "B11"),
        ("B4, central wavelength 665 nm", "B04"),
        ("B12.reflectance", "B12"),
    ],
)
def test_band_names_in_the_wild(text: str, band: str) -> None:
    found = S2.find_by_name(text)
    assert found is not None and found.name == band


@pytest.mark.parametrize("text", ["", "scene", "10m", "T32TNT", "B04_B08", "B13", "band"])
def test_no_name_no_band(text: str) -> None:
    assert S2.find_by_name(text) is None


@pytest.mark.parametrize(
    ("text", "band"),
    [("red", "B04"), ("NIR", "B08"), ("nir08", "B8A"), ("SWIR 1", "B11"), ("scene-green", "B03")],
)
def test_common_names(text: str, band: str) -> None:
    found = S2.find_by_alias(text)
    assert found is not None and found.name == band


def test_two_common_names_are_no_name() -> None:
    assert S2.find_by_alias("red_green") is None


def test_b8a_is_not_b8() -> None:
    assert S2.band("B8A").wavelength_nm > S2.band("B08").wavelength_nm


@pytest.mark.parametrize(
    ("product", "number", "band"),
    [("S30", "B11", "B11"), ("L30", "B06", "B11"), ("L30", "B04", "B04"), ("L30", "B05", "B8A")],
)
def test_hls_numbers_mean_what_the_product_says(product: str, number: str, band: str) -> None:
    found = HLS.find_by_name(f"HLS.{product}.T32TNT.2023152T101559.v2.0.{number}")
    assert found is not None and found.name == band


@pytest.mark.parametrize("number", ["B10", "B11"])
def test_thermal_bands_of_hls_are_no_shortwave_infrared(number: str) -> None:
    assert HLS.find_by_name(f"HLS.L30.T32TNT.2023152T101559.v2.0.{number}") is None


def test_spectral_earth_leaves_22_of_224_bands_out() -> None:
    full, kept = ENMAP.orders
    assert (len(full), len(kept)) == (224, 202)
    left_out = [name for name in full if name not in kept]
    assert left_out == [f"B{n}" for n in (*range(127, 142), *range(146, 153))]
    assert list(kept) == sorted(kept, key=lambda name: ENMAP.band(name).wavelength_nm)


def test_numbers_of_three_digits_are_read_however_they_are_padded() -> None:
    assert [ENMAP.find_by_name(text).name for text in ("b7", "B07", "Band 007")] == ["B007"] * 3


def test_a_word_is_a_name_only_by_itself() -> None:
    aerial = load_sensor("aerial-rgb")
    assert aerial.find_by_name("Red") == aerial.band("red")
    assert aerial.find_by_name("red edge") is None


def test_a_wavelength_can_belie_a_number() -> None:
    # Band 5 of Landsat lies where Sentinel-2 has B8A; that of Sentinel-2 is a red edge.
    assert S2.contradicts(S2.band("B05"), 865)
    assert not S2.contradicts(S2.band("B08"), 842)  # its nominal wavelength
    assert not S2.contradicts(S2.band("B05"), 5)  # an index that is called a wavelength


@pytest.mark.parametrize(
    ("text", "band"),
    [("VV", "VV"), ("Sigma0_VH_db", "VH"), ("S1A_IW_GRDH_1SDV_20230601_vv", "VV")],
)
def test_radar_bands_are_called_by_their_polarisation(text: str, band: str) -> None:
    radar = load_sensor("sentinel-1")
    found = radar.find_by_name(text) or radar.find_by_alias(text)
    assert found is not None and found.name == band
    assert radar.contradicts(found, 560.0)  # what has a wavelength is no radar band


def test_unknown_bands_of_many_are_told_in_a_readable_sentence() -> None:
    with pytest.raises(ModelError, match=r"EnMAP has no band B999; .* B016 and 208 more"):
        ENMAP.band("B999")


def test_unknown_sensor_lists_the_known() -> None:
    with pytest.raises(ModelError, match="sentinel-2"):
        load_sensor("sentinel-99")


@pytest.mark.parametrize("sensor", all_sensors(), ids=lambda sensor: sensor.id)
class TestSensorContract:
    """Every file in sensors/ keeps these rules."""

    def test_names_and_aliases_are_unique(self, sensor) -> None:
        names = [band.name for band in sensor.bands]
        aliases = [alias for band in sensor.bands for alias in band.aliases]
        assert len(set(names)) == len(names)
        assert len(set(aliases)) == len(aliases)

    def test_names_are_found_and_aliases_written_as_they_are_looked_up(self, sensor) -> None:
        for band in sensor.bands:
            assert sensor.find_by_name(band.name) == band
            for alias in band.aliases:
                assert sensor.find_by_alias(alias) == band

    def test_wavelengths_are_nanometres(self, sensor) -> None:
        if sensor.quantity == "backscatter":
            assert all(band.wavelength_nm is None for band in sensor.bands)
        else:
            assert all(300 < band.wavelength_nm < 15_000 for band in sensor.bands)

    def test_bands_have_a_width_and_are_matched_within_15_nm_at_most(self, sensor) -> None:
        if sensor.quantity == "backscatter":
            assert all(band.width_nm is None and band.tolerance_nm == 0 for band in sensor.bands)
        else:
            assert all(0 < band.tolerance_nm <= min(15, band.width_nm) for band in sensor.bands)

    def test_its_numbers_mean_something(self, sensor) -> None:
        assert sensor.quantity in ("reflectance", "radiance", "brightness", "backscatter")
        assert sensor.scale > 0

    def test_numbers_of_other_products_mean_known_bands(self, sensor) -> None:
        for names in sensor.renumbered.values():
            for name in filter(None, names.values()):
                sensor.band(name)

    def test_orders_name_known_bands(self, sensor) -> None:
        for order in sensor.orders:
            assert len(set(order)) == len(order)
            for name in order:
                sensor.band(name)
