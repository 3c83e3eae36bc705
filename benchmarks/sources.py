"""What the land-cover model loses on places and processing chains that it never saw.

    python -m benchmarks sources --data <folder with s2/index.json>

Each source of tiles is left out in turn: the embedded model's network, trained from scratch without
it, beside the one that saw all sources, on that source's validation tiles. Both have the same
number of steps and draw alike. ``MMEARTH_MORE`` names what ``tools/label_tiles.py`` made of the
training tiles, for training like the embedded model's; without it, reflectance is jittered.

``MMEARTH_SOURCES_STEPS`` and ``MMEARTH_SOURCES_SEEDS`` change the number of steps and of seeds.
Each network becomes a line of ``build/sources.jsonl``; what has a line there is not trained again.
About ten minutes a network on two cores. Means and deviations that bring bands to one scale are the
embedded model's, of all sources.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import ROOT
from benchmarks.agreement import compare, is_calibration, tile_scores
from benchmarks.common import MODEL, row
from mmearth.models.card import ModelCard, read_card
from mmearth.models.network import Normaliser
from mmearth.models.registry import build_network
from mmearth.sensors import load_sensor
from mmearth.training.augment import RadiometricJitter
from mmearth.training.distill import Recipe, distill
from mmearth.training.softlabels import INDEX, CropSampler, SoftTile, read_tiles
from mmearth.training.tune import faster_in_bfloat16

STEPS = 1_500
SEEDS = 1
LOSS = 0.03  # the most that agreement may fall, over all sources
NONE = ""  # left out of the network that saw all
LINES = ROOT / "build" / "sources.jsonl"


@dataclass(frozen=True)
class Line:
    """A network trained with a seed.

    Attributes:
        left_out, seed, steps: what was trained.
        begun: SHA-256 of what it hangs on besides: both indexes of tiles, network, normalisation,
            and how it is trained.
        right, pixels: validation pixels of the teacher's class, and all, by source.
    """

    left_out: str
    seed: int
    steps: int
    begun: str
    right: dict[str, int]
    pixels: dict[str, int]


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    data = Path(os.environ.get("MMEARTH_DATA", "")) / "s2"
    if not (data / INDEX).is_file():
        return [row("not measured: --data names no folder with s2/index.json", np.nan)]
    changed = Path(more) if (more := os.environ.get("MMEARTH_MORE")) else None
    steps = int(os.environ.get("MMEARTH_SOURCES_STEPS", STEPS))
    seeds = range(int(os.environ.get("MMEARTH_SOURCES_SEEDS", SEEDS)))
    card = read_card(ROOT / "resources" / "models" / MODEL)
    begun = _digest(card, _recipe(steps, 0), [data, *([changed] if changed else [])])
    known = {(line.left_out, line.seed): line for line in _lines() if line.begun == begun}
    scale = load_sensor(card.sensor).scale
    held = read_tiles(data, card.bands, scale=scale, wanted=lambda facts: facts["split"] == "val")
    taught = read_tiles(changed or data, card.bands, scale=scale, wanted=_is_taught)
    sources = sorted({tile.facts["source"] for tile in held})
    for seed in seeds:
        for left_out in (NONE, *sources):
            if (left_out, seed) not in known:
                tiles = [tile for tile in taught if tile.facts["source"] != left_out]
                recipe = _recipe(steps, seed)
                network = _trained(card, tiles, recipe, jitter=changed is None)
                counts = _counted(network, card, held)
                line = Line(left_out, seed, steps, begun, *counts)
                _append(line)
                known[left_out, seed] = line
    return _table(known, sources, list(seeds))


def _table(known: dict[tuple[str, int], Line], sources: list[str], seeds: list[int]) -> list[Any]:
    table = []
    pixels = known[NONE, 0].pixels
    share = np.array([pixels[source] for source in sources]) / sum(pixels.values())

    def agreements(left_out: bool) -> NDArray[np.float64]:
        rows = [
            [known[source if left_out else NONE, seed].right[source] for seed in seeds]
            for source in sources
        ]
        return np.array(rows) / np.array([[pixels[source]] for source in sources])

    seen, unseen = agreements(left_out=False), agreements(left_out=True)
    for source, with_it, without in zip(sources, seen, unseen, strict=True):
        table.append(row(f"{source}: agreement, seen", with_it.mean()))
        table.append(row(f"{source}: agreement, left out", without.mean()))
    lost = share @ (seen - unseen)
    table.append(row("all sources: agreement, seen", (share @ seen).mean()))
    table.append(row("all sources: agreement, each left out", (share @ unseen).mean()))
    bound = f"at most {LOSS:g}"
    table.append(row("all sources: lost", lost.mean(), bound, lost.mean() <= LOSS))
    return table


def _is_taught(facts: dict[str, Any]) -> bool:
    return facts["split"] == "train" and not is_calibration(facts)


def _recipe(steps: int, seed: int) -> Recipe:
    return Recipe(
        steps=steps, batch=8, crop=96, learning_rate=2e-3, averaging=0.995, seed=seed,
        mixed=faster_in_bfloat16(torch.device("cpu")),
    )  # fmt: skip


def _trained(
    card: ModelCard, tiles: list[SoftTile], recipe: Recipe, *, jitter: bool
) -> torch.nn.Module:
    torch.manual_seed(recipe.seed)
    network = build_network(card.network, in_channels=len(card.bands), classes=len(card.classes))
    sensor = load_sensor(card.sensor)
    return distill(
        network,
        Normaliser(card.normalisation),
        CropSampler(tiles, recipe.crop, recipe.seed, step=card.stride),
        recipe,
        RadiometricJitter() if jitter else RadiometricJitter(chance=0.0),
        torch.tensor([sensor.band(band).wavelength_nm / 1000 for band in card.bands]),
    )


def _counted(
    network: torch.nn.Module, card: ModelCard, tiles: list[SoftTile]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return pixels of the teacher's class, and all, by source."""
    right: dict[str, int] = defaultdict(int)
    pixels: dict[str, int] = defaultdict(int)
    normalise = Normaliser(card.normalisation)
    for tile in tiles:
        matrix = compare(tile, tile_scores(network, normalise, tile).argmax(dim=0).numpy())
        right[tile.facts["source"]] += int(matrix.trace())
        pixels[tile.facts["source"]] += int(matrix.sum())
    return dict(right), dict(pixels)


def _digest(card: ModelCard, recipe: Recipe, folders: list[Path]) -> str:
    # Code is not among it: after a change of augmentation, remove the file of lines.
    parts = [
        json.dumps([asdict(recipe), card.stride]).encode(),
        *((folder / INDEX).read_bytes() for folder in folders),
        card.network.model_dump_json().encode(),
        card.normalisation.model_dump_json().encode(),
    ]
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def _lines() -> list[Line]:
    if not LINES.is_file():
        return []
    return [Line(**json.loads(text)) for text in LINES.read_text("utf-8").splitlines()]


def _append(line: Line) -> None:
    LINES.parent.mkdir(parents=True, exist_ok=True)
    with LINES.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(line)) + "\n")
