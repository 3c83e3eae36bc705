"""The embedded land-cover models beside their teacher: by source, and level of processing.

    python -m benchmarks landcover --data <folder with s2/index.json>

On validation tiles, mapped with the code that users run. Tree masks are the product's, with its
threshold. The split comes with the data, and some of its validation tiles share ground with
training tiles: figures stand also without these. A minute or two for each model.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT
from benchmarks.agreement import Counts, map_tile
from benchmarks.common import MODEL, row
from mmearth.evaluation.tiles import shared_ground
from mmearth.models.card import ModelCard
from mmearth.models.network import Network
from mmearth.models.registry import installed_models
from mmearth.sensors import load_sensor
from mmearth.settings import Settings
from mmearth.training.softlabels import INDEX, read_tiles

TARGET = 0.91  # of the model that reads all ten bands
ALL = ("all", "both levels")
APART = ("no ground shared with training tiles", "both levels")


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    data = Path(os.environ.get("MMEARTH_DATA", "")) / "s2"
    if not (data / "index.json").is_file():
        return [row("not measured: --data names no folder with s2/index.json", np.nan)]
    return [line for card in students() for line in _rows(card, data)]


def students() -> list[ModelCard]:
    """Return the cards of the embedded land-cover models, the one for most bands first."""
    cards = installed_models([ROOT / "resources" / "models"])
    found = [
        card
        for card in cards
        if card.sensor == "sentinel-2" and any(one.id == "landcover" for one in card.products)
    ]
    return sorted(found, key=lambda card: -len(card.bands))


def _rows(card: ModelCard, data: Path) -> list[dict[str, Any]]:
    entries = [facts for facts in json.loads((data / INDEX).read_text("utf-8")) if facts["crs"]]
    parts = {
        part: [data / facts["file"] for facts in entries if facts["split"] == part]
        for part in ("train", "val")
    }
    sharing = {path for _, path in shared_ground(parts["train"], parts["val"])}
    tiles = read_tiles(
        data,
        card.bands,
        scale=load_sensor(card.sensor).scale,
        wanted=lambda facts: facts["split"] == "val" and facts["crs"] is not None,
    )
    network = Network(card, Settings())
    counts: dict[tuple[str, str], Counts] = defaultdict(lambda: Counts.none(card))
    for tile in tiles:
        probabilities = map_tile(network, tile)
        apart = [] if tile.path in sharing else [APART]
        for key in (ALL, *apart, (tile.facts["source"], tile.facts["level"])):
            counts[key].add(card, tile, probabilities)
    table = []
    for key in [ALL, *sorted(set(counts) - {ALL})]:
        figures = {"agreement": counts[key].agreement, "tree mask IoU": counts[key].tree_iou}
        for what, value in figures.items():
            bound = f"at least {TARGET}" if key == ALL and card.id == MODEL else ""
            name = f"{card.id}, {', '.join(key)}: {what}"
            table.append(row(name, value, bound, value >= TARGET or not bound))
    return table
