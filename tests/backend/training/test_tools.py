"""What trains the embedded models: thresholds of tree masks, and changed tiles."""

from __future__ import annotations

import json
from argparse import Namespace

import numpy as np
import pytest
import rasterio
from scenes import DATA

from mmearth.models.readme import describe
from tools.label_tiles import BANDS, change, label, resize, write
from tools.training import best_threshold, commands

CHANCES = np.linspace(0, 1, 1001)


@pytest.mark.parametrize("edge", [0.12, 0.5, 0.9])
def test_the_best_threshold_is_found(edge) -> None:
    assert best_threshold(CHANCES, CHANCES >= edge) == pytest.approx(edge, abs=0.01)
    # What is wrong on both sides alike moves it nowhere.
    truth = (CHANCES >= edge) ^ (np.abs(CHANCES - edge) < 0.02)
    assert best_threshold(CHANCES, truth) == pytest.approx(edge, abs=0.03)


def test_the_threshold_of_a_mask_is_where_its_iou_is_best() -> None:
    random = np.random.default_rng(0)
    probability = random.uniform(size=20_000)
    truth = probability >= 0.43
    assert best_threshold(probability, truth) == pytest.approx(0.43)
    # Below 0.6 fewer and fewer are right.
    truth = random.uniform(size=20_000) < np.where(probability >= 0.6, 1, probability / 0.6 * 0.5)
    found = best_threshold(probability, truth)
    scores = {
        number: (truth & (probability >= number)).sum() / (truth | (probability >= number)).sum()
        for number in (found - 0.05, found, found + 0.05)
    }
    assert max(scores, key=scores.get) == found


@pytest.mark.parametrize("edge", [0.0, 0.99])
def test_a_threshold_at_the_rim_of_what_is_tried_is_no_threshold(edge) -> None:
    with pytest.raises(ValueError, match="not calibrated"):
        best_threshold(CHANCES, CHANCES >= edge)


@pytest.fixture(scope="module")
def tile():
    """A tile of which a corner holds no data."""
    with rasterio.open(DATA / "terramind_l2a.tif") as dataset:
        order = [dataset.descriptions.index(band) + 1 for band in BANDS]
        image = dataset.read(order).astype(np.float32)
    image[:, :20, :30] = 0
    return image, image.any(axis=0)


@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_changed_tiles_hold_what_was_valid_in_the_range_of_sensors(level: str) -> None:
    random = np.random.default_rng(0)
    levels, sides = set(), set()
    valid = np.ones((64, 72), bool)
    valid[:, :20] = False
    image = random.uniform(200, 4000, (len(BANDS), 64, 72)).astype(np.float32) * valid
    other = random.uniform(800, 6000, (len(BANDS), 64, 64)).astype(np.float32)
    for _ in range(40):
        found, seen, own = change(image, valid, level, other, random)
        assert found.shape == (len(BANDS), *seen.shape) and min(seen.shape) >= 48
        assert found.dtype == np.float32 and (found == found.round()).all()
        assert found.min() >= 1 and found.max() <= 20_000
        # No data stays at the left, as far as it reached.
        assert seen.mean() == pytest.approx(52 / 72, abs=0.05)
        assert not seen[:, : seen.shape[1] // 4].any() and seen[:, seen.shape[1] // 3 :].all()
        levels.add(own)
        sides.add(seen.shape)
    assert levels == {"L1C", "L2A"} and len(sides) > 10


@pytest.mark.parametrize("factor", [0.7, 1.3, 1.6])
def test_no_data_is_blended_into_no_pixel_that_counts(tile, factor) -> None:
    _, valid = tile
    plain = np.repeat(np.float32(3000) * valid[None], len(BANDS), axis=0)
    image, kept = resize(plain, valid, factor)
    assert np.abs(image[:, kept] - 3000).max() < 5
    assert kept.mean() > 0.8 * valid.mean()


def test_tiles_borrow_no_light_of_another_source(tmp_path) -> None:
    """Else what a model is to be tested on would show in what it learns from."""
    random, entries = np.random.default_rng(0), []
    for source, light in (("dark", 500), ("bright", 8000)):
        for number in range(3):
            image = random.normal(light, light / 20, (len(BANDS), 48, 48)).astype(np.float32)
            name = f"{source}{number}.tif"
            write(tmp_path / name, image, np.full((9, 48, 48), 1 / 9), np.ones((48, 48), bool))
            entries.append({"file": name, "source": source, "group": name, "split": "train",
                            "level": "L1C"})  # fmt: skip

    def teacher(stored):
        return np.full((9, *stored.shape[1:]), 1 / 9, np.float32)

    label(teacher, tmp_path, entries, Namespace(seed=0, passes=8, output=tmp_path / "more"))
    listed = json.loads((tmp_path / "more" / "index.json").read_text("utf-8"))
    assert len(listed) == 8 * len(entries)
    for facts in listed:
        with rasterio.open(tmp_path / "more" / facts["file"]) as dataset:
            near_infrared = float(np.median(dataset.read(BANDS.index("B08") + 1)))
        assert (near_infrared < 1500) == (facts["source"] == "dark")


def test_a_card_keeps_the_commands_of_all_models_that_it_began_with(tiny_model) -> None:
    first, second = "python tools/a.py --steps 1", "python tools/a.py --steps 2 --start START"
    card = tiny_model.model_copy(update={"training": {"command": first}})
    assert commands(card) == [first]
    later = tiny_model.model_copy(update={"training": {"command": second, "start": [first]}})
    assert commands(later) == [first, second]
    assert f"| Start | `{first}`, then `{second}` |" in describe(
        tiny_model.model_copy(update={"training": {"start": commands(later)}})
    )
