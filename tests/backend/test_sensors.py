import pytest

from mmearth.errors import ModelError
from mmearth.sensors import all_sensors, load_sensor

S2 = load_sensor("sentinel-2")


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
        assert all(300 < band.wavelength_nm < 15_000 for band in sensor.bands)

    def test_orders_name_known_bands(self, sensor) -> None:
        for order in sensor.orders:
            assert len(set(order)) == len(order)
            for name in order:
                sensor.band(name)
