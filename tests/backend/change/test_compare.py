"""What the shipped rules call a loss: reddening and clearing, and no change of light."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmearth.change.compare import Change, compare, forest_medians
from mmearth.change.evidence import weigh
from mmearth.change.rule import load_rules

SENTINEL, ANY = load_rules()
SIDE = 24
PATCH = np.s_[8:16, 8:16]
GREEN, RED = 0.028, 0.018


def dates(trees: float, green: float = GREEN, red: float = RED, light: float = 1.0, rule=SENTINEL):
    """Return forest, and forest of which a patch is what is given: two dates as kept."""
    share = np.full((2, SIDE, SIDE), 0.7, np.float32)
    bands = np.tile(np.array([GREEN, RED], np.float32)[:, None, None], (2, 1, SIDE, SIDE))
    share[1][PATCH] = trees
    bands[1, 0][PATCH], bands[1, 1][PATCH] = green, red
    bands[1] *= light
    images = torch.from_numpy(bands[:, : len(rule.bands)])
    return list(weigh(torch.from_numpy(share), images, rule).numpy())


def told(kept, rule=SENTINEL):
    medians = forest_medians([date.reshape(3, -1) for date in kept], rule)
    return compare(kept, medians, rule)


def test_forest_that_turns_red_is_lost() -> None:
    found = told(dates(0.5, green=0.030, red=0.034))
    inner, rim = np.s_[9:15, 9:15], np.s_[:6]
    assert (found.classes[inner] == Change.loss).all()
    assert (found.classes[rim] == Change.stable_forest).all()
    assert found.probability[inner].min() >= 0.5 > found.probability[rim].max()


def test_forest_that_stays_green_is_not_lost() -> None:
    assert (told(dates(0.5, green=0.05, red=0.034)).classes == Change.stable_forest).all()


def test_what_is_cleared_is_lost_however_green() -> None:
    found = told(dates(0.03, green=0.08, red=0.05))
    assert (found.classes[PATCH] == Change.loss).all()
    assert found.probability[PATCH].min() >= 0.5


def test_another_light_changes_nothing() -> None:
    dim = told(dates(0.5, green=0.030, red=0.034, light=0.6))
    bright = told(dates(0.5, green=0.030, red=0.034, light=1.4))
    np.testing.assert_array_equal(dim.classes, bright.classes)
    np.testing.assert_allclose(dim.probability, bright.probability, atol=1e-3)


def test_a_date_in_between_hides_no_reddening() -> None:
    """Trees that die are still taken for trees: what is split is not their probability alone."""
    first, last = dates(0.7, green=0.030, red=0.034)
    between = first.copy()
    last[0] += 0.02
    between[0] += 0.02
    assert (told([first, between, last]).classes[9:15, 9:15] == Change.loss).all()


def test_a_clouded_date_in_between_spoils_nothing() -> None:
    first, last = dates(0.5, green=0.030, red=0.034)
    last[1:] += np.log(1.7) * np.array(SENTINEL.sums)[:, 1, None, None]  # a redder light
    clouded = first.copy()
    clouded[:, 2:] = np.nan
    found = told([first, clouded, last])
    np.testing.assert_array_equal(found.classes, told([first, last]).classes)
    assert (found.classes[:6] == Change.stable_forest).all()


def test_backwards_a_loss_is_a_gain() -> None:
    found = told(dates(0.3, green=0.030, red=0.034)[::-1])
    assert (found.classes[9:15, 9:15] == Change.gain).all()


@pytest.mark.parametrize(("trees", "change"), [(0.3, Change.loss), (0.6, Change.stable_forest)])
def test_any_sensor_by_the_probability_of_trees(trees: float, change: Change) -> None:
    assert ANY.sensor == "" and ANY.bands == ()
    assert (told(dates(trees, rule=ANY), ANY).classes[9:15, 9:15] == change).all()


def test_weights_are_stated_and_not_fitted() -> None:
    assert (SENTINEL.before, SENTINEL.after) == ((0, 1, -1), (0, -2, 2))
    assert (ANY.before, ANY.after) == ((1,), (-1,))
