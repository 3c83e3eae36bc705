"""Labels that do not come from the teacher: the embedded models beside it and a random forest.

    python -m benchmarks independent --data <folder with s2/, hls/ and amazon_rgb/>

The random forest reads raw bands, pixel by pixel, and learns from the very tiles and labels that
the model learned from. EuroSAT's scenes are judged by their commonest class. Of WorldCover, whose
bands the embedded model does not read, networks are trained here: ``benchmarks/harmonized.py``. The
Amazon's pictures are those that the files' tag SPLIT holds back.

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
import rasterio
import torch
from numpy.typing import NDArray

from benchmarks import ROOT, harmonized
from benchmarks.agreement import SCENES, compare, map_tile, scene_fits
from benchmarks.common import MODEL, row
from benchmarks.landcover import students
from mmearth.api import RasterInput, SegmentSpec
from mmearth.inference.predict import class_probabilities, compute_rows
from mmearth.jobs.prepare import prepare
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
PER_PICTURE = 10_000  # of the Amazon
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
    cards = students()
    card = cards[0]
    tiles = read_tiles(folder, card.bands, scale=load_sensor(card.sensor).scale)
    names = [known.name for known in card.classes]
    scenes = [tile for tile in tiles if tile.facts.get("scene") in SCENES]
    held = [tile for tile in tiles if tile.facts["split"] == "val"]
    learned = [tile for tile in tiles if tile.facts["split"] == "train"]
    maps = {"teacher": [tile.target.argmax(axis=0) for tile in scenes]}
    for student in cards:
        network = Network(student, Settings())
        maps[student.id] = [map_tile(network, tile).argmax(axis=0) for tile in scenes]
    totals = {}
    for name, balanced in FORESTS.items():
        mapped = _forest_maps(learned, [*scenes, *held], len(names), balanced)
        maps[name] = mapped[: len(scenes)]
        pairs = zip(held, mapped[len(scenes) :], strict=True)
        totals[name] = sum(compare(tile, one) for tile, one in pairs)
    new = np.array([tile.facts["split"] == "val" for tile in scenes])
    right = {
        who: np.array([scene_fits(t, one, names) for t, one in zip(scenes, mapped, strict=True)])
        for who, mapped in maps.items()
    }
    table = []
    for who, fits in right.items():
        for where, some in (("scenes", new | True), ("held back", new)):
            least = max(right[name][some].mean() for name in FORESTS)
            bound = f"more than {least:.4f}" if who not in ("teacher", *FORESTS) else ""
            name = f"EuroSAT, {who}: right of {some.sum()} {where}"
            table.append(
                row(name, fits[some].mean(), bound, not bound or fits[some].mean() > least)
            )
    for name, total in totals.items():
        table.append(row(f"{name}: agreement with the teacher, held back", agreement(total)))
        iou = intersection_over_union(total)[names.index("trees")]
        table.append(row(f"{name}: tree IoU with the teacher, held back", iou))
    return table


def _forest_maps(
    learned: Sequence[SoftTile], tiles: Sequence[SoftTile], count: int, balanced: bool
) -> list[NDArray[np.int64]]:
    """Return maps, (H, W), by a random forest that learned the teacher's classes."""
    pixels, classes = harmonized.drawn(learned, PER_TILE, 0)
    bands = pixels.shape[1]
    wanted = np.concatenate([tile.image.reshape(bands, -1) for tile in tiles], axis=1)
    found = forest_probabilities(pixels, classes, wanted.T, count, balanced=balanced).argmax(axis=1)
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
        "U-Net from scratch": partial(harmonized.network, tiles, base, begun=False),
        f"U-Net begun with {MODEL}": partial(harmonized.network, tiles, base, begun=True),
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
    pictures: dict[str, list[Any]] = {"train": [], "val": []}
    for path in sorted(folder.glob("[0-9][0-9].tif")):
        with rasterio.open(path) as dataset:
            image, split = dataset.read(), dataset.tags()["SPLIT"]
        with rasterio.open(path.with_suffix(".label.tif")) as dataset:
            label = dataset.read(1)[:, : image.shape[2]]  # one mask is 3 columns wider
        pictures[split].append((path, image, label))
    truth = np.concatenate([label[label > 0] == 1 for _, _, label in pictures["val"]])
    maps = {"random forest on red, green and blue": _forest_masks(pictures)}
    if (MODELS / AMAZON_MODEL).is_dir():
        card = read_card(MODELS / AMAZON_MODEL)
        maps[AMAZON_MODEL] = [_mask(card, path) for path, _, _ in pictures["val"]]
    table: list[dict[str, Any]] = []
    least = 0.0  # of the forest, which comes first
    for who, masks in maps.items():
        labels = (label for _, _, label in pictures["val"])
        mapped = np.concatenate([one[label > 0] for one, label in zip(masks, labels, strict=True)])
        matrix = confusion(truth.astype(int), mapped.astype(int), 2)
        iou = float(intersection_over_union(matrix)[1])
        bound = f"more than {least:.4f}" if table else ""
        name = f"Amazon, {len(masks)} held-back pictures, {who}"
        table.append(row(f"{name}: forest IoU", iou, bound, not bound or iou > least))
        table.append(row(f"{name}: accuracy", agreement(matrix)))
        least = max(least, iou)
    return table


def _forest_masks(pictures: dict[str, list[Any]]) -> list[NDArray[np.bool_]]:
    random = np.random.default_rng(0)
    pixels, classes = [], []
    for _, image, label in pictures["train"]:
        some = random.permutation(np.flatnonzero(label > 0))[:PER_PICTURE]
        pixels.append(image.reshape(3, -1)[:, some].T)
        classes.append((label.ravel()[some] == 1).astype(np.int64))
    wanted = np.concatenate([image.reshape(3, -1) for _, image, _ in pictures["val"]], axis=1)
    # Pictures of 8 bits hold few colours: each is asked for once.
    colours, place = np.unique(wanted, axis=1, return_inverse=True)
    learned = np.concatenate(pixels).astype(np.float32)
    found = forest_probabilities(learned, np.concatenate(classes), colours.T.astype(np.float32), 2)
    masks = (found[:, 1] >= 0.5)[place.ravel()]
    ends = np.cumsum([label.size for _, _, label in pictures["val"]])
    parts = np.split(masks, ends[:-1])
    return [part.reshape(one[2].shape) for part, one in zip(parts, pictures["val"], strict=True)]


def _mask(card: ModelCard, path: Path) -> NDArray[np.bool_]:
    """Return where a job's tree mask has trees. (H, W)."""
    settings = Settings()
    ready = prepare(SegmentSpec(inputs=[RasterInput(path=str(path))], model=card.id), settings)
    network = Network(ready.card, settings)
    workload = network.workload(ready.layout.rows.tile)
    rows = compute_rows(ready.stack(), class_probabilities(network), ready.layout, workload)
    values = torch.cat([part.values for part in rows], dim=1).numpy()
    trees = [known.name for known in card.classes].index("trees")
    return values[trees] >= (card.product("treemask").threshold or 0.5)


PARTS: dict[str, tuple[str, Callable[[Path], list[dict[str, Any]]]]] = {
    "eurosat": ("s2", _eurosat),
    "worldcover": ("hls", _worldcover),
    "amazon": ("amazon_rgb", _amazon),
}
