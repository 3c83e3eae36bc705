"""Dates in names: they decide which raster is the earlier one."""

import pytest

from qgis_mmearth.gui.dates import by_date, date_of


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("Boadella 2021-07-21", "2021-07-21"),
        ("S2A_MSIL2A_20200621T103031_N0214_R108_T31TDH_20210622T123456.SAFE", "2020-06-21"),
        ("wood_2020.09.tif", "2020-09"),
        ("205232_2019.tif", "2019"),
        ("T31TDH_B02_10m.jp2", ""),
        ("tile 120201 of 202013", ""),
        ("wood 202006.tif", ""),
        ("LC08_L2SP_191012_20200621_20200824_02_T1_SR_B4.TIF", "2020-06-21"),
        ("LC09_L1TP_192011_20210704_20210704_02_T1_B4.TIF", "2021-07-04"),
        ("Sentinel 21.06.2020", "2020-06-21"),
        ("site_1999_2020-06-21", "2020-06-21"),
        ("LM01_1972.tif", "1972"),
        ("plot 1931", ""),
    ],
)
def test_date_of_a_name(name, date):
    assert date_of([name]) == date


def test_a_layer_named_without_a_date_is_told_by_its_file():
    assert date_of(["Before", "wood_20200621.tif"]) == "2020-06-21"


def test_a_full_date_in_the_file_counts_more_than_a_year_in_the_layer():
    assert date_of(["Plan of 2030", "wood_20200621.tif"]) == "2020-06-21"
    assert date_of(["2020-06-21", "edited_20240101.tif"]) == "2020-06-21"


def test_dates_of_one_year_stay_apart():
    names = ["Sentinel 23.07.2020", "Sentinel 21.06.2020"]
    assert by_date([(name, [name]) for name in names]) == [names[1:], names[:1]]


def test_bands_of_one_date_stay_together():
    names = ["2021_B02", "2020_B02", "2021_B03", "2020_B03"]
    assert by_date([(name, [name]) for name in names]) == [names[1::2], names[0::2]]


def test_without_dates_two_are_two_and_more_are_one_scene():
    assert by_date([("b", ["b"]), ("a", ["a"])]) == [["b"], ["a"]]
    assert by_date([(n, [n]) for n in "abc"]) == [["a", "b", "c"]]
    assert by_date([("a", ["a 2020"]), ("b", ["b"]), ("c", ["c"])]) == [["a", "b", "c"]]
    assert by_date([]) == []
