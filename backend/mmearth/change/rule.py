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

    A date is described by the probability of trees, and by a weighted sum of the logarithms of its
    reflectances, one as the earlier and one as the later date, each less its median over the
    scene's stable forest. Evidence of a loss is a weighted sum of these of both dates, averaged
    over a square around the pixel. No weight is fitted; only ``threshold`` is tuned to labels.

    With r the logarithm of red over green less its median over stable forest, ``sentinel-2`` takes
    (r after - r before) + r after: how much redder the canopy became, and how red it is. Crowns
    that die turn red before they fall (Red-Green Index; Coops, Johnson, Wulder and White, 2006,
    Remote Sensing of Environment 103, 67-80). ``probability`` is for models of any other sensor and
    takes the drop in the probability of trees.

    Attributes:
        id: name, as results state it.
        sensor: of the models that it is for; empty for any.
        bands: whose reflectances are compared.
        typical: logarithm of the reflectance of forest in each band, for scenes without forest.
        before: weights of the earlier date: of the probability, then of each band.
        after: of the later date.
        window: side of the square in pixels, odd.
        threshold: evidence from which on a change is mapped.
        spread: of the evidence over forest that stayed (1.4826 times the median absolute
            deviation, as much as a standard deviation). In this unit the log odds of a change are
            what the evidence exceeds the threshold by: even odds there, by definition.
        forest: probability of trees from which on a pixel counts as forest.
        least: probability of trees before, below which nothing can have been lost. Less than
            ``forest``, because thin and ailing forest is lost first.
        cleared: probability of trees after, up to which forest is gone whatever bands say: what
            tells trees that die must not overlook those that are felled.
    """

    id: str
    sensor: str
    bands: tuple[str, ...]
    typical: tuple[float, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    window: int
    threshold: float
    spread: float
    forest: float
    least: float
    cleared: float

    @property
    def halo(self) -> int:
        """Pixels around a place that decide about it."""
        return self.window // 2

    @property
    def sums(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Weights of the bands in a date's sum, as the earlier and as the later date."""
        return self.before[1:], self.after[1:]

    @property
    def typical_sums(self) -> tuple[float, float]:
        """A date's sums over forest, as the earlier and as the later date."""
        before, after = (
            sum(weight * value for weight, value in zip(weights, self.typical, strict=True))
            for weights in self.sums
        )
        return before, after

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
