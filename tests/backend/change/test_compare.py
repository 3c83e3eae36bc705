"""What the shipped rules call a loss: reddening and clearing, and no change of light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmearth.change.compare import Change, compare, forest_medians, window_mean
from mmearth.change.evidence import weigh
from mmearth.change.rule import load_rules

SENTINEL, TEN_METRES, ANY = load_rules()
SIDE = 24
PATCH = np.s_[8:16, 8:16]
INNER = np.s_[9:15, 9:15]
# Of it without its corners, around which most of the rules' square shows what stayed.
CORE = np.zeros((SIDE, SIDE), bool)
CORE[INNER] = True
CORE[9:15:5, 9:15:5] = False
GREEN, RED = 0.028, 0.018
FOREST = {"B02": 0.020, "B03": GREEN, "B04": RED, "B08": 0.17, "B8A": 0.18, "B11": 0.07}


def dates(trees: float, light: float = 1.0, rule=SENTINEL, before=None, **after: float):
    """Return forest, and forest of which a patch is what is given: two dates as kept."""
    share = np.full((2, SIDE, SIDE), 0.7, np.float32)
    share[1][PATCH] = trees
    bands = np.zeros((2, len(rule.bands), SIDE, SIDE), np.float32)
    for number, name in enumerate(rule.bands):
        bands[:, number] = FOREST[name]
        bands[0, number][PATCH] = (before or {}).get(name, FOREST[name])
        bands[1, number][PATCH] = after.get(name, FOREST[name])
    bands[1] *= light
    return list(weigh(torch.from_numpy(share), torch.from_numpy(bands), rule).numpy())


def told(kept, rule=SENTINEL):
    medians = forest_medians([date.reshape(4, -1) for date in kept], rule)
    return compare(kept, medians, rule)


def test_forest_that_turns_red_is_lost() -> None:
    found = told(dates(0.5, B03=0.030, B04=0.040))
    inner, rim = CORE, np.s_[:6]
    assert (found.classes[inner] == Change.loss).all()
    assert (found.classes[rim] == Change.stable_forest).all()
    assert found.probability[inner].min() >= SENTINEL.mapped > found.probability[rim].max()


def test_forest_that_stays_green_is_not_lost() -> None:
    assert (told(dates(0.5, B03=0.05, B04=0.034)).classes == Change.stable_forest).all()


def test_bright_ground_does_not_spill_over_its_rim() -> None:
    found = told(dates(0.5, B02=0.09, B03=0.12, B04=0.20, B11=0.33))
    lost = np.zeros((SIDE, SIDE), bool)
    lost[PATCH] = True
    assert not (found.classes == Change.loss)[~lost].any()
    assert (found.classes[INNER] == Change.loss).all()


def test_what_was_bright_before_was_no_closed_stand() -> None:
    """As is a field that is ploughed, or forest that had died by the first date."""
    for bright, change in ((0.09, Change.loss), (0.20, Change.stable_forest)):
        found = told(dates(0.5, before={"B11": bright}, B03=0.030, B04=0.040))
        assert (found.classes[CORE] == change).all()


@pytest.mark.parametrize("rule", [SENTINEL, TEN_METRES])
def test_water_that_falls_dry_was_no_forest(rule) -> None:
    """A drained pond is dark before, as conifers are, and shows red mud after."""
    dark = {"B08": 0.03, "B8A": 0.03, "B11": 0.02}
    kept = dates(0.015, rule=rule, before=dark, B03=0.09, B04=0.14, B08=0.2, B8A=0.2, B11=0.2)
    kept[0][0][PATCH] = 0.015
    assert (told(kept, rule).classes[PATCH] == Change.stable_other).all()


@pytest.mark.parametrize("trees", [0.0, 0.001, 0.1, 0.45])
def test_forest_that_is_gone_and_turned_green_is_no_stable_forest(trees: float) -> None:
    found = told(dates(trees, B03=0.08, B04=0.05))
    assert (found.classes[PATCH] == Change.possible_loss).all()
    assert found.probability[PATCH].max() < SENTINEL.mapped


@pytest.mark.parametrize("trees", [0.0, 0.1])
def test_forest_that_was_bright_and_is_gone_is_no_stable_non_forest(trees: float) -> None:
    """As are broadleaved stands, and fields that were taken for forest."""
    found = told(dates(trees, before={"B11": 0.25}, B03=0.030, B04=0.040))
    assert (found.classes[INNER] == Change.possible_loss).all()


def test_forest_that_came_unseen_by_bands_is_a_possible_gain() -> None:
    found = told(dates(0.1, B03=0.08, B04=0.05)[::-1])
    assert (found.classes[PATCH] == Change.possible_gain).all()


def test_what_becomes_forest_is_not_lost_whatever_its_colours() -> None:
    kept = dates(0.8, B03=0.030, B04=0.040)
    kept[0][0][PATCH] = 0.3
    assert (told(kept).classes[PATCH] == Change.possible_gain).all()


@pytest.mark.parametrize(("rule", "side"), [(SENTINEL, 4), (TEN_METRES, 4), (ANY, 3)])
def test_a_small_clearing_is_mapped_but_for_its_corners(rule, side: int) -> None:
    """Bare ground after closed forest: what no loss is mapped of is possible."""
    kept = dates(0.02, rule=rule, B02=0.07, B03=0.09, B04=0.12, B8A=0.24, B08=0.22, B11=0.3)
    first, last = (date.copy() for date in kept)
    first[0] = 0.95
    part = np.s_[:, 8 : 8 + side, 8 : 8 + side]
    shown = np.broadcast_to(first[:, :1, :1], first.shape).copy()
    shown[part] = last[part]
    classes = told([first, shown], rule).classes
    assert (classes == Change.loss).sum() >= side**2 - 4
    rest = np.ones_like(classes, bool)
    rest[part[1:]] = False
    assert (classes[rest] == Change.stable_forest).all()


def test_near_pixels_count_more_and_missing_ones_not() -> None:
    spot = np.zeros((9, 9), np.float32)
    spot[4, 4] = 1
    every = np.ones_like(spot, bool)
    mean = window_mean(spot, every, 5)
    assert mean[4, 4] > mean[4, 5] > mean[4, 6] > 0 == mean[4, 7]
    assert mean.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(window_mean(spot, every, 1), spot)
    gap = every.copy()
    gap[4, 5:] = False
    np.testing.assert_allclose(window_mean(np.ones_like(spot), gap, 5)[:, :5], 1, rtol=1e-6)


def test_another_light_changes_nothing() -> None:
    dim = told(dates(0.5, B03=0.030, B04=0.040, light=0.6))
    bright = told(dates(0.5, B03=0.030, B04=0.040, light=1.4))
    np.testing.assert_array_equal(dim.classes, bright.classes)
    np.testing.assert_allclose(dim.probability, bright.probability, atol=1e-3)


def test_haze_changes_nothing() -> None:
    """It adds to what is visible, and more to blue than to red."""
    first, last = dates(0.5, B03=0.030, B04=0.040)
    hazy = last.copy()
    for number, haze in enumerate((0.03, 0.02, 0.012)):
        hazy[1] += SENTINEL.index[number] * haze
    clear = told([first, last])
    found = told([first, hazy])
    np.testing.assert_array_equal(found.classes, clear.classes)
    np.testing.assert_allclose(found.probability, clear.probability, atol=1e-3)


def test_a_date_in_between_hides_no_reddening() -> None:
    """Trees that die are still taken for trees: what is split is not their probability alone."""
    first, last = dates(0.7, B03=0.030, B04=0.040)
    between = first.copy()
    last[0] += 0.02
    between[0] += 0.02
    assert (told([first, between, last]).classes[CORE] == Change.loss).all()


def test_a_clouded_date_in_between_spoils_nothing() -> None:
    first, last = dates(0.5, B03=0.030, B04=0.040)
    last[1:3] += 0.3  # a redder light
    clouded = first.copy()
    clouded[:, 2:] = np.nan
    found = told([first, clouded, last])
    np.testing.assert_array_equal(found.classes, told([first, last]).classes)
    assert (found.classes[:6] == Change.stable_forest).all()


def test_backwards_a_loss_is_a_gain() -> None:
    found = told(dates(0.3, B03=0.030, B04=0.040)[::-1])
    assert (found.classes[CORE] == Change.gain).all()


@pytest.mark.parametrize(("trees", "change"), [(0.3, Change.loss), (0.6, Change.stable_forest)])
def test_any_sensor_by_the_probability_of_trees(trees: float, change: Change) -> None:
    assert ANY.sensor == "" and ANY.bands == ()
    assert (told(dates(trees, rule=ANY), ANY).classes[INNER] == change).all()


def test_the_bands_of_10_metres_do_alone() -> None:
    assert set(TEN_METRES.bands) == {"B02", "B03", "B04", "B08"}
    found = told(dates(0.5, rule=TEN_METRES, B03=0.030, B04=0.042), TEN_METRES)
    assert (found.classes[INNER] == Change.loss).all()
    assert (found.classes[:6] == Change.stable_forest).all()


def test_the_manual_tells_from_which_probability_on_a_change_is_mapped() -> None:
    manual = Path(__file__).parents[3] / "resources" / "manual" / "manual.html"
    assert f"A change is mapped from {SENTINEL.mapped:.0%} on".replace("%", " %") in " ".join(
        manual.read_text("utf-8").split()
    )


def test_weights_are_stated_and_not_fitted() -> None:
    assert dict(zip(SENTINEL.bands, SENTINEL.index, strict=True)) == {
        "B02": -10, "B03": -10, "B04": 20, "B8A": 0, "B11": 0
    }  # fmt: skip
    assert TEN_METRES.index == (-10, -10, 20, 0)
    for rule in (SENTINEL, TEN_METRES):
        assert (rule.before, rule.after) == ((0, -1), (0, 2))
    assert (ANY.before, ANY.after) == ((1, 0), (-1, 0))
