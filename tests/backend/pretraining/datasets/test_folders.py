"""Data sets of folders, in the layouts that their publishers' own code reads."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from mmearth.errors import InputError, RasterReadError
from mmearth.models.store.published import find_published
from mmearth.pretraining.modality import UNKNOWN
from mmearth.pretraining.registry import check_dataset, open_dataset, open_held

# zhu-xlab/SSL4EO-S12, 2156913, ssl4eo_dataset.py
L1C = "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12".split()
L2A = [band for band in L1C if band != "B10"]
COARSE = {"B5": 2, "B6": 2, "B7": 2, "B8A": 2, "B11": 2, "B12": 2, "B1": 6, "B9": 6, "B10": 6}
SEASONS = ("20200603T104031", "20200911T104031", "20201225T104441", "20210320T104021")
SIDE = 264


@pytest.fixture
def s12(tmp_path, make_raster):
    """Two places of four seasons: of season n, B2 is 1000 n + column; Sentinel-1 is -10 - n."""
    columns = np.broadcast_to(np.arange(SIDE), (SIDE, SIDE))
    for place in ("0000200", "0000201"):
        for season, begin in enumerate(SEASONS):
            scene = f"{begin}_{begin}_T31TFJ"
            for product, bands in (("s2a", L2A[:4]), ("s2c", ["B2", "B10"])):
                for band in bands:
                    factor = COARSE.get(band, 1)
                    values = (1000 * (season + 1) + columns)[::factor, ::factor].astype(np.uint16)
                    if band == "B3":
                        values[:, :20] = 0
                    make_raster(f"S12/{product}/{place}/{scene}/{band}.tif", values)
            radar = f"S1B_IW_GRDH_1SDV_{SEASONS[3 - season][:8]}T054500_022_03D_B13"
            noise = np.random.default_rng(season).normal(0, 0.01, (SIDE, SIDE))
            for band in ("VV", "VH"):
                values = (noise - 10 - (3 - season)).astype(np.float32)
                make_raster(f"S12/s1/{place}/{radar}/{band}.tif", values)
    return tmp_path / "S12"


FEW = ["B01", "B02", "B03", "B04"]


def test_seasons_of_both_sensors(s12, request_of, draw) -> None:
    data = open_dataset(request_of("ssl4eo-s12", s12, bands=FEW), None)
    assert (len(data), data.levels, data.split) == (2, ("L2A",), "all")
    assert [one.name for one in data.modalities] == ["sentinel-2", "sentinel-1"]
    batch = draw(data, 24)
    norm = data.normalisation
    blue = (batch["sentinel-2"][:, 1] * norm.std[1] + norm.mean[1]) * 10000
    season = (blue.mean(dim=(1, 2)) / 1000).floor()
    decibels = batch["sentinel-1"][:, 0].mean(dim=(1, 2)) * 5.25697717 - 12.54847273
    assert set(season.tolist()) == {1, 2, 3, 4}
    assert torch.allclose(decibels, -9 - season, atol=0.1)  # the scene nearest in time
    # A band of 60 m is brought onto the same pixels.
    coast = (batch["sentinel-2"][:, 0] * norm.std[0] + norm.mean[0]) * 10000
    assert (coast - blue).abs().max() < 8
    assert batch["sentinel-2"][:, 2].isnan().any() and not batch["sentinel-2"][:, 1].isnan().any()


def test_views_are_of_different_seasons_of_the_same_place(s12, request_of) -> None:
    data = open_dataset(request_of("ssl4eo-s12", s12, bands=["B02"]), None)
    first, second = data.draw_views(12, np.random.default_rng(0), 2)
    norm = data.normalisation
    apart = (second - first) * norm.std[0] * 10000
    assert (apart.abs() > 990).all()
    assert (apart - apart.mean(dim=(1, 2, 3), keepdim=True)).abs().max() < 1  # on the same pixels
    again = data.draw_views(12, np.random.default_rng(0), 2)
    assert torch.equal(again[1], second)
    five = data.draw_views(2, np.random.default_rng(0), 5)
    assert len(five) == 5 and torch.equal(five[0], five[4])  # there are but four


def test_products_by_path_and_sensor(s12, request_of) -> None:
    level1 = open_dataset(request_of("ssl4eo-s12", s12 / "s2c", bands=["B02", "B10"]), None)
    assert (level1.levels, level1.bands) == (("L1C",), ("B02", "B10"))
    radar = open_dataset(request_of("ssl4eo-s12", s12, sensor="sentinel-1"), None)
    assert (radar.bands, radar.levels) == (("VV", "VH"), ())
    assert check_dataset(request_of("ssl4eo-s12", s12), None)[7:9] == ("B08", "B8A")
    shutil.rmtree(s12 / "s1")
    alone = open_dataset(request_of("ssl4eo-s12", s12, bands=["B02"]), None)
    assert [one.name for one in alone.modalities] == ["sentinel-2"]
    with pytest.raises(InputError, match="no images of sentinel-1: expected a folder s1"):
        check_dataset(request_of("ssl4eo-s12", s12, sensor="sentinel-1"), None)
    for fields, message in (
        ({"bands": ["B10"]}, r"\(s2a\) has no Sentinel-2 band B10"),
        ({"split": "val"}, "not divided into parts"),
        ({"crop": 272}, "do not fit"),
        ({"sensor": "enmap"}, "not of enmap"),
        ({"modalities": ["dem"]}, "does not hold dem"),
    ):
        with pytest.raises(InputError, match=message):
            check_dataset(request_of("ssl4eo-s12", s12, **fields), None)


@pytest.fixture
def forest(tmp_path, make_raster):
    """Six places, two of them in one block, with two images of one season among others."""
    rows = []
    for number in range(6):
        place, images = f"{number:05d}", []
        mask = np.random.default_rng(number).integers(0, 3, (24, 24)).astype(np.uint8)
        for date, day in enumerate(("20180605", "20180715", "20180901")):
            path = f"images/{place}/{day}T100031_{day}T100029_T33UUP/all_bands.tif"
            side = 23 if (number, date) == (1, 2) else 24
            values = np.full((12, side, side), 1000 * (date + 1), np.uint16)
            values[:4] += 100 * mask[:side, :side]
            values[8] = 7000  # B8A, after B8
            make_raster(f"forest/{path}", values)
            images.append(
                {"path": path, "timestamp_start": day, "timestamp_end": day, "tile_id": "T33UUP",
                 "season": "summer", "width": side, "height": side}
            )  # fmt: skip
        make_raster(f"forest/masks/{place}/mask.tif", mask)
        west = 10.0 + (0.3 if number == 1 else 2.0 * number)
        rows.append(
            {"group_id": place, "mask_path": f"masks/{place}/mask.tif",
             "bbox_epsg4326": [west, 50.2, west + 0.04, 50.23], "mask_width": 24,
             "mask_height": 24, "dimensions_match": number != 1, "images": images}
        )  # fmt: skip
    (tmp_path / "forest" / "meta.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "forest"


BLUE = ["B02", "B03"]


def test_forest_masks_have_three_values(forest, request_of, draw) -> None:
    request = request_of("ssl4eo-eu-forest", forest, bands=BLUE, split="")
    data = open_dataset(request, None)
    assert [(one.name, one.channels) for one in data.modalities] == [
        ("sentinel-2", 2), ("dominant-leaf-type", 3),
    ]  # fmt: skip
    batch = draw(data, 30)
    blue = batch["sentinel-2"][:, 0] * data.normalisation.std[0] + data.normalisation.mean[0]
    mask = batch["dominant-leaf-type"]
    assert set(mask.unique().tolist()) == {0, 1, 2} and UNKNOWN not in mask
    assert torch.equal(((blue * 10000).round() % 1000 / 100).long(), mask)
    assert set((blue.amin(dim=(1, 2)) * 10).round().tolist()) == {1, 2, 3}  # all three dates
    alone = open_dataset(request_of("ssl4eo-eu-forest", forest, bands=BLUE,
                                    modalities=["sentinel-2"]), None)  # fmt: skip
    assert list(draw(alone, 2)) == ["sentinel-2"]


def test_two_images_of_a_season_are_two_views(forest, request_of) -> None:
    data = open_dataset(request_of("ssl4eo-eu-forest", forest, bands=BLUE, split=""), None)
    views = data.draw_views(20, np.random.default_rng(0), 2)
    apart = (views[0] - views[1]) * data.normalisation.std[0]
    assert (apart.abs() > 0.09).all()


def test_images_of_another_size_are_left_out(forest, request_of) -> None:
    request = request_of("ssl4eo-eu-forest", forest, bands=BLUE, split="")
    (warning,) = open_dataset(request, None).warnings
    assert "another size than the mask of their place: 1 image." in warning.message
    next((forest / "images" / "00003").rglob("20180715*/all_bands.tif")).unlink()
    warnings = open_dataset(request, None).warnings
    assert "not been downloaded: 1 image." in warnings[1].message
    with pytest.raises(InputError, match=r"None of 6 places .* fewer pixels than crops of 32"):
        open_dataset(request_of("ssl4eo-eu-forest", forest, bands=BLUE, crop=32, split=""), None)


def test_parts_are_blocks(forest, request_of) -> None:
    def places(part):
        request = request_of("ssl4eo-eu-forest", forest, bands=BLUE, split=part)
        data = open_dataset(request, None)
        names = {path.parent.name for path in data.files if path.name == "mask.tif"}
        assert len(names) == len(data)
        return names

    parts = [places("train"), places("val")]
    with pytest.raises(
        InputError, match="part 'test': there are too few blocks"
    ):  # five blocks, for three parts
        places("test")
    assert parts[0] | parts[1] == places("") and not parts[0] & parts[1]
    assert any({"00000", "00001"} <= part for part in parts)
    assert places(None) == parts[0] and len(parts[0]) > len(parts[1])
    request = request_of("ssl4eo-eu-forest", forest, bands=BLUE)
    learned = open_dataset(request, None)
    held = open_held(request, None, learned)
    assert held.split == "val" and len(held) == len(parts[1])
    assert held.normalisation == learned.normalisation
    assert open_held(request, None, held) is None
    with pytest.raises(InputError, match="has no part 'tst'"):
        check_dataset(request_of("ssl4eo-eu-forest", forest, split="tst"), None)


def test_near_infrared_bands_in_their_order(forest, request_of) -> None:
    request = request_of("ssl4eo-eu-forest", forest, bands=["B08", "B8A"], split="")
    # B8A is the same everywhere; of B08 alone something can be learned.
    with pytest.raises(InputError, match="one value only of B8A"):
        open_dataset(request, None)


@pytest.fixture
def earth(tmp_path, make_raster):
    """Two patches of 202 bands, of three dates and of one, with a gap."""
    random = np.random.default_rng(0)
    slope = np.arange(202)[:, None, None]
    for patch, dates in (("a_1", 3), ("b_2", 1)):
        for date in range(dates):
            values = 1000 * date + 10 * slope + random.integers(0, 9, (202, 128, 128))
            values[:, :, :9] = -32768
            make_raster(f"se/enmap/{patch}/{patch}_2023060{date}.tif", values.astype(np.int16))
    return tmp_path / "se"


def test_patches_of_enmap(earth, request_of, draw) -> None:
    request = request_of("spectral-earth", earth, sensor="enmap", crop=64)
    data = open_dataset(request, None)
    assert (len(data), len(data.bands), data.levels) == (2, 202, ("L2A",))
    assert data.bands == find_published("spectralearth-rn50-moco").bands
    assert data.resolution_m == 30
    image = draw(data, 8)["enmap"]
    assert image.shape == (8, 202, 64, 64)
    norm = data.normalisation
    stored = (image * torch.tensor(norm.std).view(-1, 1, 1)
              + torch.tensor(norm.mean).view(-1, 1, 1)) * 10000  # fmt: skip
    bands = stored.nanmean(dim=(2, 3))
    assert torch.allclose(bands[:, 201] - bands[:, 0], torch.tensor(2010.0), atol=3)
    assert image.isnan().any() and stored.nan_to_num(0).min() > -10
    some = open_dataset(request_of("spectral-earth", earth, sensor="enmap",
                                   bands=list(data.bands[40:43])), None)  # fmt: skip
    assert draw(some, 2)["enmap"].shape == (2, 3, 16, 16)


def test_dates_of_a_patch_are_views(earth, request_of) -> None:
    bands = find_published("spectralearth-rn50-moco").bands[:2]
    data = open_dataset(request_of("spectral-earth", earth, sensor="enmap", bands=bands), None)
    first, second = data.draw_views(20, np.random.default_rng(0), 2)
    apart = ((first - second) * data.normalisation.std[0] * 10000).nanmean(dim=(1, 2, 3)).abs()
    several = apart > 900
    assert several.any() and not several.all()
    assert (apart[~several] == 0).all()


def test_what_is_no_spectral_earth(earth, request_of, make_raster) -> None:
    with pytest.raises(InputError, match="not of sentinel-2"):
        check_dataset(request_of("spectral-earth", earth), None)
    with pytest.raises(InputError, match="There is no folder"):
        check_dataset(request_of("spectral-earth", earth / "enmap", sensor="enmap"), None)
    make_raster("se/enmap/b_2/b_2_20230600.tif", np.ones((224, 128, 128), np.int16))
    with pytest.raises(RasterReadError, match="has 224 bands, expected 202"):
        open_dataset(request_of("spectral-earth", earth, sensor="enmap"), None)
