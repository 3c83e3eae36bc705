"""Labels that do not come from the teacher: the embedded models beside it and a random forest.

    python -m benchmarks independent --data <folder with s2/, hls/ and amazon_rgb/>

The random forest reads raw bands, pixel by pixel, and learns from the tiles and labels that the
model learned from, as they came: places that serve to calibrate the model are left out of both.
It is grown three times, from other pixels. EuroSAT's scenes are judged by their commonest class. Of
WorldCover, whose bands the embedded model does not read, networks are trained here:
``benchmarks/harmonized.py``. The Amazon's pictures are those that the files' tag SPLIT holds back.

``MMEARTH_INDEPENDENT`` chooses parts, with commas between: eurosat, worldcover, amazon. WorldCover
takes a quarter of an hour on a core of its own, the others a few minutes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import ROOT, amazon, harmonized
from benchmarks.agreement import SCENES, compare, is_calibration, map_tile, scene_fits
from benchmarks.common import MODEL, row
from benchmarks.landcover import students
from benchmarks.mapped import map_file
from mmearth.models.card import ModelCard, read_card
from mmearth.models.network import Network
from mmearth.sensors import load_sensor
from mmearth.settings import Settings
from mmearth.training.baseline import forest_probabilities
from mmearth.training.metrics import (
    agreement,
    confusion,
    difference_interval,
    intersection_over_union,
)
from mmearth.training.softlabels import SoftTile, read_tiles

MODELS = ROOT / "resources" / "models"
AMAZON_MODEL = "forest-rgb"
SEEDS = 3
PER_TILE = 200  # pixels of Sentinel-2 that the random forest learns from
# Whether classes count alike, however many pixels each has: the harder one to beat is the bound.
FORESTS = {"random forest on raw bands": False, "random forest, classes counting alike": True}


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    data = Path(os.environ.get("MMEARTH_DATA", ""))
    table = []
    for name in os.environ.get("MMEARTH_INDEPENDENT", ",".join(PARTS)).split(","):
        folder, part = PARTS[name]
        if (data / folder).is_dir():
            table += part(data / folder)
        else:
            table.append(
                row(f"{name}: not measured, --data names no folder with {folder}/", np.nan)
            )
    return table


def _eurosat(folder: Path) -> list[dict[str, Any]]:
    return [line for card in students() for line in _scenes(folder, card)]


def _scenes(folder: Path, card: ModelCard) -> list[dict[str, Any]]:
    """Return the rows of a model, beside random forests on the bands that it reads."""
    tiles = read_tiles(folder, card.bands, scale=load_sensor(card.sensor).scale)
    names = [known.name for known in card.classes]
    scenes = [tile for tile in tiles if tile.facts.get("scene") in SCENES]
    held = [tile for tile in tiles if tile.facts["split"] == "val"]
    learned = [
        tile for tile in tiles if tile.facts["split"] == "train" and not is_calibration(tile.facts)
    ]
    judged = [*scenes, *held]
    network = Network(card, Settings(threads=torch.get_num_threads()))
    # Maps of all that is judged by each run; what is learned by chance has several.
    runs = {card.id: [[map_tile(network, tile).argmax(axis=0) for tile in judged]]}
    for name, balanced in FORESTS.items():
        runs[name] = [
            _forest_maps(learned, judged, len(names), balanced, seed) for seed in range(SEEDS)
        ]
    fits = {"teacher": _fits(scenes, [[tile.target.argmax(axis=0) for tile in scenes]], names)}
    fits |= {who: _fits(scenes, maps, names) for who, maps in runs.items()}
    new = np.array([tile.facts["split"] == "val" for tile in scenes])
    table = []
    for where, some in (("scenes", new | True), ("held back", new)):
        shares = {who: found[:, some].mean(axis=1) for who, found in fits.items()}
        least = max(shares[name].mean() for name in FORESTS)
        for who, share in shares.items():
            bound = f"more than {least:.4f}" if who == card.id else ""
            what = f"right of {some.sum()} {where}{_spread(share)}"
            name = f"EuroSAT, {len(card.bands)} bands, {who}: {what}"
            table.append(row(name, share.mean(), bound, not bound or share.mean() > least))
    for who, maps in runs.items():
        totals = [
            sum(compare(tile, one) for tile, one in zip(held, found[len(scenes) :], strict=True))
            for found in maps
        ]
        trees = names.index("trees")
        for what, figures in (
            ("agreement", np.array([agreement(total) for total in totals])),
            ("tree IoU", np.array([intersection_over_union(total)[trees] for total in totals])),
        ):
            name = f"{len(card.bands)} bands, {who}: {what} with the teacher, held back"
            table.append(row(name + _spread(figures), figures.mean()))
    return table


def _fits(
    scenes: Sequence[SoftTile], runs: Sequence[Sequence[NDArray[np.int64]]], names: list[str]
) -> NDArray[np.bool_]:
    """Return whether each scene's commonest class is right: (runs, scenes); maps go on beyond."""
    return np.array(
        [
            [scene_fits(tile, one, names) for tile, one in zip(scenes, maps, strict=False)]
            for maps in runs
        ]
    )


def _spread(figures: NDArray[np.float64]) -> str:
    """Return the standard deviation in words, if there are several."""
    return f" (± {figures.std(ddof=1):.3f})" if figures.size > 1 else ""


def _forest_maps(
    learned: Sequence[SoftTile],
    tiles: Sequence[SoftTile],
    count: int,
    balanced: bool,
    seed: int,
) -> list[NDArray[np.int64]]:
    """Return maps, (H, W), by a random forest that learned the teacher's classes."""
    pixels, classes = harmonized.drawn(learned, PER_TILE, seed)
    bands = pixels.shape[1]
    wanted = np.concatenate([tile.image.reshape(bands, -1) for tile in tiles], axis=1)
    found = forest_probabilities(
        pixels, classes, wanted.T, count, seed=seed, balanced=balanced
    ).argmax(axis=1)
    ends = np.cumsum([tile.valid.size for tile in tiles])
    parts = np.split(found, ends[:-1])
    return [part.reshape(tile.valid.shape) for part, tile in zip(parts, tiles, strict=True)]


def _worldcover(folder: Path) -> list[dict[str, Any]]:
    tiles = harmonized.read(folder)
    base = read_card(MODELS / MODEL)
    ways: dict[str, Callable[[int], list[NDArray[np.int64]]]] = {
        name: partial(harmonized.forest, tiles, balanced=balanced)
        for name, balanced in FORESTS.items()
    } | {
        "The network from scratch": partial(harmonized.network, tiles, base, begun=False),
        f"The network begun with {MODEL}": partial(harmonized.network, tiles, base, begun=True),
    }
    truth = np.concatenate([tile.target.argmax(axis=0)[tile.valid] for tile in tiles.tested])
    groups = np.concatenate(
        [np.full(tile.valid.sum(), tile.facts["group"]) for tile in tiles.tested]
    )
    found: dict[str, NDArray[np.float64]] = {}  # (seeds, 2)
    votes: dict[str, NDArray[np.int64]] = {}  # of all seeds: the class that most of them give
    for who, way in ways.items():
        figures = []
        given = np.zeros((len(harmonized.CODES), truth.size), np.int8)
        for seed in range(SEEDS):
            maps = zip(tiles.tested, way(seed), strict=True)
            mapped = np.concatenate([one[tile.valid] for tile, one in maps])
            matrix = confusion(truth, mapped, len(harmonized.CODES))
            iou = float(intersection_over_union(matrix)[harmonized.TREES])
            figures.append((agreement(matrix), iou))
            given[mapped, np.arange(truth.size)] += 1
            print(f"    {who}, seed {seed}: {agreement(matrix):.4f}, {iou:.4f}", flush=True)
        found[who], votes[who] = np.array(figures), given.argmax(axis=0)
    best = np.max([found[who].mean(axis=0) for who in FORESTS], axis=0)
    table = []
    for who, values in found.items():
        for what, mean, spread, least in zip(
            ("accuracy", "tree IoU"), values.mean(0), values.std(0, ddof=1), best, strict=True
        ):
            bound = "" if who in FORESTS else f"more than {least:.4f}"
            name = f"WorldCover, {who}: {what} (± {spread:.3f})"
            table.append(row(name, mean, bound, not bound or mean > least))
        if who not in FORESTS:
            right, others = votes[who] == truth, votes[next(iter(FORESTS))] == truth
            matrix = confusion(truth, votes[who], len(harmonized.CODES))
            where = f"WorldCover, {who}, vote of {SEEDS} seeds"
            table.append(row(f"{where}: accuracy", agreement(matrix)))
            iou = intersection_over_union(matrix)[harmonized.TREES]
            table.append(row(f"{where}: tree IoU", iou))
            low, high = difference_interval(right, others, groups)
            table.append(row(f"{where}: accuracy gained on the forest's, 95 % from", low))
            table.append(row(f"{'':>{len(where)}}  to", high))
    return table


def _amazon(folder: Path) -> list[dict[str, Any]]:
    pictures = amazon.read(folder)
    held = amazon.of_split(pictures, "val")
    truth = amazon.truth(held)
    maps = {
        name: amazon.forest_on_colours(pictures, balanced=balanced)
        for name, balanced in FORESTS.items()
    }
    if (MODELS / AMAZON_MODEL).is_dir():
        card = read_card(MODELS / AMAZON_MODEL)
        trees = [known.name for known in card.classes].index("trees")
        threshold = card.product("treemask").threshold or 0.5
        found = [map_file(card, one.path)[0][trees][one.known] for one in held]
        maps[AMAZON_MODEL] = np.concatenate(found) >= threshold
    table: list[dict[str, Any]] = []
    groups = np.repeat(np.arange(len(held)), [int(one.known.sum()) for one in held])
    least = 0.0  # of the forests, which come first
    for who, mapped in maps.items():
        matrix = confusion(truth.astype(int), mapped.astype(int), 2)
        iou = float(intersection_over_union(matrix)[1])
        bound = "" if who in FORESTS else f"more than {least:.4f}"
        name = f"Amazon, {len(held)} held-back pictures, {who}"
        table.append(row(f"{name}: forest IoU", iou, bound, not bound or iou > least))
        table.append(row(f"{name}: accuracy", agreement(matrix)))
        if who in FORESTS:
            least = max(least, iou)
            continue
        for forest in FORESTS:
            low, high = difference_interval(mapped == truth, maps[forest] == truth, groups)
            what = f"{name}: accuracy gained on {forest}, 95 % by picture from"
            table.append(row(what, low))
            table.append(row(f"{'':>{len(what) - 2}}to", high))
    return table


PARTS: dict[str, tuple[str, Callable[[Path], list[dict[str, Any]]]]] = {
    "eurosat": ("s2", _eurosat),
    "worldcover": ("hls", _worldcover),
    "amazon": ("amazon_rgb", _amazon),
}
