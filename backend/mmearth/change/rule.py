"""The rule by which change is told, as numbers in ``rule.toml``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # Python 3.10
    import tomli as tomllib

from mmearth.errors import ModelError, listed
from mmearth.models.card import ModelCard

FILE = Path(__file__).with_suffix(".toml")
TREE_PRODUCT = "treemask"
TREE_CLASSES = ("trees", "tree", "tree_cover", "forest")


@dataclass(frozen=True)
class Rule:
    """What counts as evidence of a loss, and the thresholds that go with it.

    A date is described by the probability of trees and by an index of reflectances, corrected for
    the light of the date (see ``compare``). Evidence of a loss is a weighted sum of both at both
    dates, averaged over a square around the pixel in which near ones count more. No weight is
    fitted; only ``threshold``, ``brightest``, ``mapped`` and ``spread`` are tuned to labels.

    With r = 2 red - green - blue, less what the scene's stable forest shows, ``sentinel-2`` takes
    (r after - r before) + r after: how much redder the ground became, and how red it is. Living
    canopy reflects most in green of what can be seen; crowns that die turn red before they fall
    (Coops, Johnson, Wulder and White, 2006, Remote Sensing of Environment 103, 67-80), and litter
    and soil are brown. What beetles attack are closed stands of conifers, which are dark in the
    short-wave infrared: what was brighter before the loss by more than ``brightest`` was none, or
    has been attacked already. Models that read the bands of 10 m alone have the near infrared for
    that (``sentinel-2-10m``). ``probability`` is for models of any other sensor and takes the drop
    in the probability of trees.

    Attributes:
        id: name, as results state it.
        model: identifier of the one that it was tuned with. Probabilities of another model are on
            another scale.
        model_sha256: of its weights.
        sensor: of the models that it is for; empty for any.
        bands: whose reflectances are compared.
        typical: reflectance of forest in each band, for scenes without forest.
        index: weights of the bands in the index. Its unit is a tenth of reflectance, so that a
            loss changes it by about as much as it changes a probability.
        light: the band in which forest that stayed is taken to be as bright on all dates; in it
            haze counts least. Empty without bands.
        shade: the band in which forest is dark; empty without bands.
        before: weights of the earlier date in the evidence: of the probability, of the index.
        after: of the later date.
        window: side of the square in pixels, odd; see ``compare.window_mean``.
        most: evidence of a single pixel that counts, so that bright ground does not spill over its
            rim.
        threshold: evidence from which on a change is mapped.
        mapped: probability of a change at the threshold, in whole percents; maps are best there,
            and not where odds are even.
        spread: evidence that makes the odds of a change e times as high.
        brightest: reflectance in the band ``shade``, less that of the scene's stable forest, up to
            which it is forest that can be lost.
        forest: probability of trees from which on a pixel counts as forest.
        least: probability of trees before, below which nothing can have been lost. Less than
            ``forest``, because thin and ailing forest is lost first.
    """

    id: str
    model: str
    model_sha256: str
    sensor: str
    bands: tuple[str, ...]
    typical: tuple[float, ...]
    index: tuple[float, ...]
    light: str
    shade: str
    before: tuple[float, float]
    after: tuple[float, float]
    window: int
    most: float
    threshold: float
    mapped: float
    spread: float
    brightest: float
    forest: float
    least: float

    @property
    def halo(self) -> int:
        """Pixels around a place that decide about it."""
        return self.window // 2

    @property
    def sums(self) -> tuple[tuple[float, ...], ...]:
        """Weights of the bands in what is kept of a date: index, shade and light."""
        alone = (
            tuple(float(band == name) for band in self.bands) for name in (self.shade, self.light)
        )
        return self.index, *alone

    @property
    def typical_sums(self) -> tuple[float, ...]:
        """Index, shade and light over forest."""
        return tuple(
            sum(weight * value for weight, value in zip(weights, self.typical, strict=True))
            for weights in self.sums
        )

    def suits(self, card: ModelCard) -> bool:
        """Tell whether a model reads what the rule compares."""
        return self.sensor in ("", card.sensor) and set(self.bands) <= set(card.bands)


def rule_for(card: ModelCard) -> Rule:
    """Return the first rule that suits a model; the last one suits all."""
    return next(rule for rule in load_rules() if rule.suits(card))


def tree_classes(card: ModelCard) -> tuple[str, ...]:
    """Return the classes of a model that are trees: of its tree mask, or by their names.

    Raises:
        ModelError: if it has none.
    """
    card.require("segmentation")
    for product in card.products:
        if product.id == TREE_PRODUCT and product.members:
            return product.members
    names = [row.name for row in card.classes]
    found = tuple(name for name in names if name in TREE_CLASSES)
    if not found:
        raise ModelError(
            f"{card.title} maps no trees: a product {TREE_PRODUCT}, or a class named "
            f"{listed(TREE_CLASSES)} is expected, and its classes are {listed(names)}.",
            "Choose a model that maps trees, such as landcover-s2.",
        )
    return found


@cache
def load_rules() -> tuple[Rule, ...]:
    """Read the rules that are shipped."""
    held = tomllib.loads(FILE.read_text("utf-8"))
    return tuple(parse(name, facts) for name, facts in held.items())


def parse(name: str, facts: Mapping[str, Any]) -> Rule:
    """Read a rule of one table of the file."""
    lists = {key: tuple(value) for key, value in facts.items() if isinstance(value, list)}
    return Rule(id=name, **{**facts, **lists})
