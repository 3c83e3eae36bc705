"""The hint that a scene is unlike what a model was trained on: when it speaks, and what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from scenes import DATA, ROOT

from mmearth.errors import ModelError
from mmearth.models.card import parse_card, read_card
from mmearth.models.inputs import InputStatistics, statistics, summary, unlike
from mmearth.models.save import save_model, stac_item
from mmearth.sensors import load_sensor

CARD = read_card(ROOT / "resources" / "models" / "landcover-s2")
SENSOR = load_sensor("sentinel-2")
TILES = ("eurosat_forest_l1c", "terramind_l1c", "terramind_l2a")


def reflectance(name: str) -> np.ndarray:
    with rasterio.open(DATA / f"{name}.tif") as dataset:
        order = [dataset.descriptions.index(band) for band in CARD.bands]
        return dataset.read()[order].reshape(len(order), -1) / 10_000


def hint(pixels: np.ndarray) -> str:
    problem = unlike(CARD.inputs, summary(pixels), CARD.bands, SENSOR)
    return f"{problem.message} {problem.advice}" if problem else ""


@pytest.mark.parametrize("name", TILES)
def test_silent_on_images_of_both_levels(name) -> None:
    assert hint(reflectance(name)) == ""


@pytest.mark.parametrize("name", TILES)
def test_an_offset_that_was_left_in(name) -> None:
    words = hint(reflectance(name) + 0.1)
    assert "as if something had been added" in words and "(-0.1)" in words


def test_a_wrong_scale_in_either_direction() -> None:
    forest = reflectance("eurosat_forest_l1c")
    assert "much brighter" in hint(forest * 10) and "Check scale" in hint(forest * 10)
    assert "much darker" in hint(forest / 20)


def test_the_band_that_is_off_is_named() -> None:
    forest = reflectance("eurosat_forest_l1c")
    forest[8] *= 8
    assert "trained on, in B11 (shortwave infrared 1)." in hint(forest)


def test_bands_in_another_order() -> None:
    words = hint(reflectance("eurosat_forest_l1c")[[0, 1, 2, 3, 4, 5, 6, 7, 9, 8]])
    assert "B11 (shortwave infrared 1) and B12 (shortwave infrared 2) do not go together" in words
    assert "which raster band is which" in words


def test_clouds() -> None:
    forest = reflectance("eurosat_forest_l1c")
    forest[:, : forest.shape[1] * 7 // 10] = 0.6
    assert "clouds" in hint(forest)


def test_words_without_jargon() -> None:
    forest = reflectance("eurosat_forest_l1c")
    for spoilt in (forest * 10, forest / 20, forest + 0.1, forest[::-1]):
        words = hint(spoilt).lower()
        for jargon in ("quantile", "percentile", "median", "distribution", "domain", "statistic"):
            assert jargon not in words


def test_statistics_hold_for_all_tiles_but_one_in_a_hundred() -> None:
    random = np.random.default_rng(0)
    tiles = [
        summary(random.uniform(0.05, 0.3, (3, 200)) * random.uniform(0.8, 1.2)) for _ in range(400)
    ]
    usual = statistics(tiles)
    dark, middle, bright = np.stack(tiles, axis=1)
    assert usual.tiles == 400 and usual.band_count == 3
    hair = 1e-4  # limits are rounded
    for beyond in (
        dark.min(axis=1) - usual.darkest,
        *(middle - np.array(usual.middle)).T,
        *(np.array(usual.brightest) - bright).T,
    ):
        assert (beyond > hair).sum() <= 4 <= (beyond > -hair).sum()
    names = ("B02", "B03", "B04")
    told = [unlike(usual, tile, names, SENSOR) for tile in tiles]
    assert sum(problem is not None for problem in told) <= 8


def test_one_band_has_no_neighbours() -> None:
    usual = statistics([summary([np.array([0.1, 0.2])]), summary([np.array([0.2, 0.3])])])
    assert usual.band_count == 1 and usual.steps == ()
    problem = unlike(usual, summary([np.array([0.9, 1.0])]), ("B02",), SENSOR)
    assert problem is not None and "in all bands" in problem.message


def test_statistics_travel_with_the_card(tiny_facts, tmp_path) -> None:
    facts = {**tiny_facts, "inputs": CARD.inputs.model_dump()}
    card = save_model(tmp_path / "tiny", {}, facts)
    assert card.inputs == CARD.inputs
    item = stac_item(CARD, CARD.weights.stat().st_size)
    assert InputStatistics(**item["properties"]["mmearth:inputs"]) == CARD.inputs


def test_statistics_of_other_bands_are_refused() -> None:
    item = json.loads((CARD.folder / "model.json").read_text("utf-8"))
    del item["properties"]["mmearth:inputs"]["middle"][0]
    with pytest.raises(ModelError, match="10 bands need input statistics of as many"):
        parse_card(json.dumps(item), CARD.folder)
