"""How far the land-cover models' probabilities can be trusted, before and after calibration.

    python -m benchmarks calibration --data <folder with s2/index.json>

Measured on the places that the index sets aside, tile by tile from the files with the code that
users run; before calibration is the same model at the temperature 1. "Classes" are the teacher's
likeliest ones: against these, a probability says how often a class is right, and the mean
probability of trees is their cover. "Probabilities" are the teacher's own, which are far from
certain even where it is right; a model that agrees with them says what the teacher would.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import ROOT
from benchmarks.agreement import map_tile
from benchmarks.common import row
from mmearth.models.card import ModelCard
from mmearth.models.network import Network
from mmearth.models.registry import installed_models
from mmearth.sensors import load_sensor
from mmearth.settings import Settings
from mmearth.training.reliability import Calibration, density_error, diagram
from mmearth.training.softlabels import SoftTile, read_tiles

SENSOR = "sentinel-2"
MOST_LOST = 0.001  # of agreement, by temperatures that differ between classes
DATA = "validation places, against the teacher's classes"


@dataclass(frozen=True)
class Seen:
    """What a model says of tiles, pixel by pixel, and what the teacher does.

    Attributes:
        before: (n, K) float32, probabilities at the temperature 1.
        after: (n, K) float32, at the card's.
        target: (n, K) float32, the teacher's.
        units: (n,) number of the tile.
        trees: number of the class.
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    target: NDArray[np.float32]
    units: NDArray[np.int64]
    trees: int

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """The teacher's likeliest class of each pixel. (n,)."""
        return self.target.argmax(axis=1)

    def calibration(self, truth: NDArray[Any]) -> Calibration:
        """Return the reliability against classes (n,) or probabilities (n, K)."""
        return Calibration(diagram(self.before, truth), diagram(self.after, truth))

    def cover_error(self, truth: NDArray[Any]) -> list[tuple[float, float]]:
        """Return mean and root mean square error of the cover of trees, before and after."""
        share = truth == self.trees if truth.ndim == 1 else truth[:, self.trees]
        return [
            density_error(found[:, self.trees], share, self.units)
            for found in (self.before, self.after)
        ]


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    folder = Path(os.environ.get("MMEARTH_DATA", "")) / "s2"
    if not (folder / "index.json").is_file():
        return [row("not measured: MMEARTH_DATA names no folder with s2/index.json", np.nan)]
    table = []
    for card in installed_models([ROOT / "resources" / "models"]):
        if card.sensor == SENSOR and "trees" in {known.name for known in card.classes}:
            tiles = read_tiles(folder, card.bands, scale=load_sensor(SENSOR).scale, wanted=_tested)
            table += _rows(card.id, look(card, tiles))
    return table


def _tested(facts: dict[str, Any]) -> bool:
    return facts["split"] == "val" and facts["crs"] is not None


def look(card: ModelCard, tiles: Sequence[SoftTile]) -> Seen:
    """Map tiles with a model that is saved; those that lie nowhere are left out.

    Each is mapped twice, because scores of one pass, divided by temperatures, are not what users
    get: where tiles of a job overlap, it is probabilities that are blended.
    """
    tiles = [tile for tile in tiles if tile.facts["crs"] is not None]
    settings = Settings(threads=torch.get_num_threads(), memory_mb=1024)
    maps = []
    for temperature in (1.0, card.temperature):
        network = Network(card.model_copy(update={"temperature": temperature}), settings)
        maps.append([map_tile(network, tile)[:, tile.valid].T for tile in tiles])
    before, after = map(np.concatenate, maps)
    return Seen(
        before,
        after,
        np.concatenate([tile.target[:, tile.valid].T for tile in tiles]),
        np.repeat(np.arange(len(tiles)), [tile.valid.sum() for tile in tiles]),
        [known.name for known in card.classes].index("trees"),
    )


def card_figures(seen: Seen) -> tuple[list[dict[str, Any]], str]:
    """Return rows of a card's measured figures, and its diagram as SVG."""
    found = seen.calibration(seen.classes)
    _, (mean, root) = seen.cover_error(seen.classes)
    cover = {"Tree cover by tile, mean error": mean, "Tree cover by tile, RMSE": root}
    rows = [{"name": name, "value": round(value, 4), "data": DATA} for name, value in cover.items()]
    return [*found.figures(DATA), *rows], found.draw(seen.trees, "trees")


def _rows(name: str, seen: Seen) -> list[dict[str, Any]]:
    table = [row(f"{name}: pixels of {seen.units.max() + 1} tiles", seen.units.size)]
    for what, truth in (("classes", seen.classes), ("probabilities", seen.target)):
        found, covers = seen.calibration(truth), seen.cover_error(truth)
        pairs = zip(("before", "after"), (found.before, found.after), covers, strict=True)
        for when, diagrams, (mean, root) in pairs:
            judged = what == "classes" and when == "after"
            bound, held = "", True
            if judged:
                bound, held = "less than before", found.after.error < found.before.error
            begin = f"{name}, {what}, {when}"
            table += [
                row(f"{begin}: ECE", diagrams.error, bound, held),
                row(f"{begin}: mean ECE of classes", diagrams.classwise_error),
                row(f"{begin}: ECE of trees", diagrams.classes[seen.trees].error),
                row(f"{begin}: tree cover by tile, mean error", mean),
                row(f"{begin}: tree cover by tile, RMSE", root),
            ]
    found = seen.calibration(seen.classes)
    lost = found.before.agreement - found.after.agreement
    bound = f"at most {MOST_LOST}"
    return [
        *table,
        row(f"{name}: agreement before", found.before.agreement),
        row(f"{name}: agreement lost by calibration", lost, bound, lost <= MOST_LOST),
    ]
