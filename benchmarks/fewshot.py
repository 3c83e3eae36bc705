"""Few labels: accuracy of the protocols and of a random forest at 5, 10 and 25 polygons a class.

    MMEARTH_DATA=<folder with s2/index.json> python -m benchmarks fewshot

Two tasks: the ten scene classes of EuroSAT, and the forest types of Czech sites. A polygon is a
disc of nine pixels across; places that are tested on are never labelled. Some places were among
those that the base was trained on: it knows their pixels, though not these labels. Discs are laid
on one scene that is made of all places, each with reflected rims, so that ``Task`` works as it is.

``MMEARTH_FEWSHOT_ROWS`` chooses rows, with commas between. Quick and the forest take minutes, rows
that train all weights hours.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import from_origin
from scipy.ndimage import binary_erosion

from benchmarks.common import MODEL, row
from mmearth.api import RasterInput, SegmentSpec
from mmearth.jobs.prepare import Prepared, prepare
from mmearth.models.decoders.hypercolumn import Hypercolumn
from mmearth.models.network import Normaliser
from mmearth.models.registry import build_network
from mmearth.settings import Settings
from mmearth.training.baseline import forest_probabilities
from mmearth.training.labels import Labels
from mmearth.training.metrics import agreement, confusion, f1
from mmearth.training.task import Task, Watch, train

COUNTS = (5, 10, 25)  # polygons a class
SEEDS = 5
RADIUS = 4  # pixels of a polygon
RIM = 32  # reflected pixels around a place, at least
WIDTH = 1536  # pixels of the scene that is made of all places
PER_PLACE = 100  # pixels tested on
# Name of a row: protocol and whether it begins from scratch; none is the random forest.
ROWS: dict[str, tuple[str, bool] | None] = {
    "random forest": None,
    "quick": ("quick", False),
    "full": ("full", False),
    "scratch": ("full", True),
}


@dataclass(frozen=True)
class Place:
    """A tile whose classes are known.

    Attributes:
        group: tiles of one group are of one place.
        image: (12, H, W) uint16, 0 = no data.
        truth: (H, W) int64, class numbers from 0, -1 where not known.
        names: of the bands.
    """

    group: str
    image: NDArray[np.uint16]
    truth: NDArray[np.int64]
    names: tuple[str, ...]


@dataclass(frozen=True)
class World:
    """All places on one scene.

    Attributes:
        prepared: the scene, ready to be mapped.
        reflectance: (C, H, W) float32.
        valid: (H, W) bool.
        truth: (H, W) int64, -1 where not known.
        place: (H, W) int64, number of the place, -1 on its rims.
        cells: rectangle of each place with its rims, as slices of rows and columns.
        groups: of each place.
    """

    prepared: Prepared
    reflectance: NDArray[np.float32]
    valid: NDArray[np.bool_]
    truth: NDArray[np.int64]
    place: NDArray[np.int64]
    cells: list[tuple[slice, slice]]
    groups: NDArray[np.str_]


def measure(scratch: Path, seeds: Iterable[int] = range(SEEDS)) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    data = Path(os.environ.get("MMEARTH_DATA", ""))
    if not (data / "s2" / "index.json").is_file():
        return [row("not measured: MMEARTH_DATA names no folder with s2/index.json", np.nan)]
    chosen = os.environ.get("MMEARTH_FEWSHOT_ROWS", ",".join(ROWS)).split(",")
    settings = Settings(home=scratch / "home", memory_mb=1024)
    table = []
    for task, (read, classes) in TASKS.items():
        world = _world(read(data), scratch / f"{task}.tif", settings)
        scores: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
        for seed in seeds:
            print(f"    {task}, seed {seed + 1} of {SEEDS}", flush=True)
            random = np.random.default_rng(seed)
            groups = random.permutation(np.unique(world.groups))
            tested = np.isin(world.groups, groups[: len(groups) // 3])
            pixels = _test_pixels(world, tested, random)
            for count in COUNTS:
                labels = _draw(world, ~tested, classes, count, random)
                for name in chosen:
                    mapped = _map(ROWS[name], world, labels, pixels, settings, scratch, seed)
                    matrix = confusion(world.truth[pixels], mapped, len(classes))
                    figures = agreement(matrix), float(np.nanmean(f1(matrix)))
                    scores[name, count].append(figures)
        table += _rows(task, chosen, scores)
    return table


def _rows(
    task: str, chosen: list[str], scores: dict[tuple[str, int], list[tuple[float, float]]]
) -> list[dict[str, Any]]:
    rows = []
    for count in COUNTS:
        means = {name: np.mean(scores[name, count], axis=0) for name in chosen}
        forest = float(means["random forest"][0]) if "random forest" in means else 0.0
        for name in chosen:
            deviation = np.std(scores[name, count], axis=0, ddof=1)[0]
            what = f"{task}, {count} polygons a class, {name}: accuracy (± {deviation:.3f})"
            rows.append(row(what, means[name][0]))
            rows.append(row(f"{'':>{len(task)}}  mean F1", means[name][1]))
        if forest and {"quick", "full"} <= set(chosen):
            best = max(float(means[name][0]) for name in ("quick", "full"))
            bound = f"at least {forest:.4f}"
            rows.append(row(f"{task}, {count}: the better of both", best, bound, best >= forest))
    return rows


def _eurosat(data: Path) -> list[Place]:
    entries = [facts for facts in _index(data) if facts["source"] == "eurosat"]
    places = []
    for facts in entries:
        image, names = _image(data / "s2" / facts["file"])
        truth = np.full(image.shape[1:], SCENES.index(facts["scene"]), np.int64)
        places.append(_place(facts, image, truth, names))
    return places


def _czech(data: Path) -> list[Place]:
    places = []
    for facts in _index(data):
        path = data / "s2" / facts["file"]
        label = data / "disturbance" / f"{path.stem.removesuffix('_2020')}.forest2022.tif"
        if facts["source"] == "czech" and path.stem.endswith("_2020") and label.is_file():
            image, names = _image(path)
            with rasterio.open(label) as source:
                truth = source.read(1).astype(np.int64)
            if truth.shape == image.shape[1:]:
                places.append(_place(facts, image, truth, names))
    return places


SCENES = (
    "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture",
    "PermanentCrop", "Residential", "River", "SeaLake",
)  # fmt: skip
FOREST = ("other", "broadleaved", "coniferous", "mixed")
TASKS: dict[str, tuple[Callable[[Path], list[Place]], tuple[str, ...]]] = {
    "EuroSAT scenes": (_eurosat, SCENES),
    "Czech forest types": (_czech, FOREST),
}


def _index(data: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((data / "s2" / "index.json").read_text("utf-8"))
    return entries


def _image(path: Path) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    with rasterio.open(path) as source:
        return source.read(), source.descriptions


def _place(
    facts: dict[str, Any],
    image: NDArray[np.uint16],
    truth: NDArray[np.int64],
    names: tuple[str, ...],
) -> Place:
    return Place(facts["group"], image, np.where(image.any(axis=0), truth, -1), names)


def _world(places: list[Place], path: Path, settings: Settings) -> World:
    """Lay places side by side in rows, the tallest first, each with rims of its own reflection."""
    places = sorted(places, key=lambda place: -place.image.shape[1])
    rims = [[_rim(side) for side in place.image.shape[1:]] for place in places]
    cells: list[tuple[slice, slice]] = []
    top = left = bottom = 0
    for place, (down, across) in zip(places, rims, strict=True):
        height, width = (
            side + sum(rim) for side, rim in zip(place.image.shape[1:], (down, across), strict=True)
        )
        if left + width > WIDTH:
            top, left = bottom, 0
        cells.append((slice(top, top + height), slice(left, left + width)))
        bottom, left = max(bottom, top + height), left + width
    image = np.zeros((places[0].image.shape[0], bottom, WIDTH), np.uint16)
    truth, number = (np.full((bottom, WIDTH), -1, np.int64) for _ in range(2))
    for index, (place, cell, rim) in enumerate(zip(places, cells, rims, strict=True)):
        image[(slice(None), *cell)] = np.pad(place.image, [(0, 0), *rim], "reflect")
        inside = tuple(
            slice(part.start + before, part.stop - after)
            for part, (before, after) in zip(cell, rim, strict=True)
        )
        truth[inside] = place.truth
        number[inside] = index
    _write(path, image, places[0].names)
    spec = SegmentSpec(inputs=[RasterInput(path=str(path))], model=MODEL)
    prepared = prepare(spec, settings)
    with prepared.stack() as stack:
        reflectance, valid = stack.read_rows(0, bottom)
    groups = np.array([place.group for place in places])
    return World(prepared, reflectance, valid, truth, number, cells, groups)


def _rim(side: int) -> tuple[int, int]:
    """Return the rims that make a side a multiple of 32."""
    total = -(-(side + 2 * RIM) // 32) * 32 - side
    return total // 2, total - total // 2


def _write(path: Path, image: NDArray[np.uint16], names: tuple[str, ...]) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint16", count=image.shape[0], height=image.shape[1],
        width=image.shape[2], crs=CRS.from_epsg(32632), nodata=0,
        transform=from_origin(600_000, 5_400_000, 10, 10),
    ) as target:  # fmt: skip
        target.write(image)
        target.descriptions = names


def _test_pixels(
    world: World, tested: NDArray[np.bool_], random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, cols = [], []
    for index in np.flatnonzero(tested):
        down, across = np.nonzero((world.place == index) & (world.truth >= 0))
        some = random.permutation(down.size)[:PER_PLACE]
        rows.append(down[some])
        cols.append(across[some])
    return np.concatenate(rows), np.concatenate(cols)


def _draw(
    world: World,
    wanted: NDArray[np.bool_],
    classes: tuple[str, ...],
    count: int,
    random: np.random.Generator,
) -> Labels:
    """Draw discs within each class, in one place after another."""
    height, width = world.truth.shape
    down, across = np.mgrid[:height, :width]
    usable = np.isin(world.place, np.flatnonzero(wanted))
    parts, unit = [], 0
    for kind in range(len(classes)):
        inner = binary_erosion((world.truth == kind) & usable)
        places = random.permutation(np.unique(world.place[inner]))
        for index in np.resize(places, count):
            rows, cols = np.nonzero(inner & (world.place == index))
            chosen = random.integers(rows.size)
            row_, col = rows[chosen], cols[chosen]
            near = np.s_[
                max(0, row_ - RADIUS) : row_ + RADIUS + 1, max(0, col - RADIUS) : col + RADIUS + 1
            ]
            disc = (down[near] - row_) ** 2 + (across[near] - col) ** 2 <= RADIUS**2
            disc &= (world.truth[near] == kind) & (world.place[near] == index)
            size = int(disc.sum())
            parts.append(
                np.stack([down[near][disc], across[near][disc], np.full(size, kind),
                          np.full(size, unit)])
            )  # fmt: skip
            unit += 1
    found = np.concatenate(parts, axis=1).astype(np.int64)
    _, first = np.unique(found[0] * width + found[1], return_index=True)  # discs may overlap
    return Labels(classes, *found[:, np.sort(first)])


def _map(
    how: tuple[str, bool] | None,
    world: World,
    labels: Labels,
    pixels: tuple[NDArray[np.int64], NDArray[np.int64]],
    settings: Settings,
    scratch: Path,
    seed: int,
) -> NDArray[np.int64]:
    """Train on labels, and map the pixels that are tested on. (n,)."""
    if how is None:
        learned = world.reflectance[:, labels.rows, labels.cols].T
        wanted = world.reflectance[(slice(None), *pixels)].T
        count = len(labels.names)
        found = forest_probabilities(learned, labels.classes, wanted, count, seed=seed)
        return found.argmax(axis=1)
    protocol, from_scratch = how
    ready = world.prepared
    stack = ready.stack()
    task = Task(
        ready.card, stack, ready.layout, labels, settings, protocol,
        scratch / f"{protocol} {seed} {labels.units.size} {from_scratch}",
        from_scratch=from_scratch, validation=0.0, seed=seed,
    )  # fmt: skip
    trained = train(task, Watch())
    network = build_network(
        trained.network, in_channels=len(ready.bands), classes=len(labels.names)
    )
    network.load_state_dict(trained.state)
    network.eval()
    if isinstance(network, Hypercolumn):
        network.remembers = True
    normalise = Normaliser(ready.card.normalisation)
    mapped = np.zeros(world.truth.shape, np.int64)
    with torch.inference_mode():
        for cell in (world.cells[index] for index in np.unique(world.place[pixels])):
            image = torch.from_numpy(world.reflectance[(slice(None), *cell)].copy())
            mask = torch.from_numpy(world.valid[cell].copy())
            mapped[cell] = network(normalise(image[None], mask[None]))[0].argmax(dim=0).numpy()
    return mapped[pixels]
