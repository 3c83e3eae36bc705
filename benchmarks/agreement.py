"""How well a land-cover model agrees with its teacher, and with the scenes of EuroSAT.

Tiles are read from their files and mapped with the code that users run.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.api import RasterInput
from mmearth.inference.predict import class_probabilities, compute_rows
from mmearth.inference.tiles import Layout
from mmearth.models.card import ModelCard
from mmearth.models.network import Network, Normaliser
from mmearth.raster.radiometry import ScaledBand
from mmearth.raster.source import list_bands
from mmearth.raster.stack import RasterStack
from mmearth.sensors import load_sensor
from mmearth.settings import Settings
from mmearth.training.metrics import agreement, confusion, intersection_over_union
from mmearth.training.softlabels import SoftTile

# EuroSAT's scene classes, and what of ours is right for each; Highway has no counterpart.
SCENES = {
    "Forest": {"trees"},
    "Residential": {"built"},
    "Industrial": {"built"},
    "SeaLake": {"water"},
    "River": {"water"},
    "AnnualCrop": {"crops"},
    "PermanentCrop": {"crops"},
    "Pasture": {"grass"},
    "HerbaceousVegetation": {"grass", "shrub_and_scrub"},
}


@dataclass
class Counts:
    """Confusion matrices of maps: the teacher's in rows.

    Attributes:
        classes: (K, K), of the likeliest classes.
        mask: (2, 2), of the tree mask, with the product's threshold.
    """

    classes: NDArray[np.int64]
    mask: NDArray[np.int64]

    @classmethod
    def none(cls, card: ModelCard) -> Counts:
        """Return the counts of no pixel."""
        return cls(np.zeros((len(card.classes),) * 2, np.int64), np.zeros((2, 2), np.int64))

    def add(self, card: ModelCard, tile: SoftTile, probabilities: NDArray[np.float32]) -> None:
        """Count the pixels of a tile, mapped with a model: (K, H, W)."""
        trees = [known.name for known in card.classes].index("trees")
        truth = (tile.target.argmax(axis=0) == trees)[tile.valid].astype(int)
        threshold = card.product("treemask").threshold
        mapped = (probabilities[trees] >= threshold)[tile.valid].astype(int)
        self.classes += compare(tile, probabilities.argmax(axis=0))
        self.mask += confusion(truth, mapped, 2)

    @property
    def agreement(self) -> float:
        """Share of pixels of the teacher's class."""
        return agreement(self.classes)

    @property
    def tree_iou(self) -> float:
        """IoU of the tree mask."""
        return float(intersection_over_union(self.mask)[1])


def is_calibration(facts: dict[str, Any]) -> bool:
    """Put one training place in ten aside, by its entry, to fit temperature and threshold."""
    digest = hashlib.sha256(facts["group"].encode()).digest()
    return digest[0] % 10 == 0


def measure(card: ModelCard, tiles: list[SoftTile], held_out: set[str]) -> list[dict[str, Any]]:
    """Measure a saved model with the code that users run, tile by tile from the files."""
    network = Network(card, Settings(threads=torch.get_num_threads()))
    names = [known.name for known in card.classes]
    counts: dict[str, Counts] = defaultdict(lambda: Counts.none(card))
    right = {"student": 0, "teacher": 0, "student val": 0, "teacher val": 0}
    scenes = {"all": 0, "val": 0}
    for tile in tiles:
        scene = tile.facts.get("scene") in SCENES
        validation, source = tile.facts["split"] == "val", tile.facts["source"]
        if not (scene or validation or source in held_out) or tile.facts["crs"] is None:
            continue
        probabilities = map_tile(network, tile)
        if scene:
            scenes["all"] += 1
            scenes["val"] += validation
            mapped = probabilities.argmax(axis=0)
            for who, classes in (("student", mapped), ("teacher", tile.target.argmax(axis=0))):
                fits = scene_fits(tile, classes, names)
                right[who] += fits
                right[f"{who} val"] += validation and fits
        if source in held_out:
            counts[f"held out: {source}"].add(card, tile, probabilities)
        if validation:
            counts["all"].add(card, tile, probabilities)
            counts[source].add(card, tile, probabilities)
    data = "validation places, against the teacher"
    rows = [
        _row("Agreement", counts["all"].agreement, data),
        _row("Tree mask IoU", counts["all"].tree_iou, data),
    ]
    for name, value in zip(names, intersection_over_union(counts["all"].classes), strict=True):
        if not np.isnan(value):
            rows.append(_row(f"IoU {name}", float(value), data))
    for source, found in counts.items():
        if source != "all":
            rows.append(_row(f"Agreement, {source}", found.agreement, data))
    for who in ("student", "teacher"):
        name = f"EuroSAT scenes right by majority, {who}"
        learned = f"{scenes['all']} scenes, {scenes['all'] - scenes['val']} of them learned from"
        rows.append(_row(name, right[who] / scenes["all"], learned))
        rows.append(
            _row(name, right[f"{who} val"] / scenes["val"], f"{scenes['val']} scenes, validation")
        )
    return rows


def map_tile(network: Network, tile: SoftTile) -> NDArray[np.float32]:
    """Return probabilities (K, H, W) of a tile, read from its file and run in tiles as in a job."""
    card, sensor = network.card, load_sensor(network.card.sensor)
    sources = {
        band.hints[0]: band for band in list_bands([RasterInput(path=str(tile.path), label="")])
    }
    bands = [
        ScaledBand(sources[name], sensor.scale, 0.0, None, sensor.nodata) for name in card.bands
    ]
    grid = bands[0].source.grid
    layout = Layout.of(
        grid.height, grid.width, card.tile_size, least=card.overlap, stride=card.stride
    )
    workload = network.workload(card.tile_size)
    parts = compute_rows(RasterStack(bands, grid), class_probabilities(network), layout, workload)
    return torch.cat([part.values for part in parts], dim=1).numpy()


@torch.inference_mode()
def tile_scores(network: torch.nn.Module, normalise: Normaliser, tile: SoftTile) -> torch.Tensor:
    """Return the class scores of a whole tile, reflected to a multiple of 16. (K, H, W).

    An even number of pixels comes before it, for networks that halve the image in pairs.
    """
    height, width = tile.valid.shape
    grow = [((side + 16 + 15) // 16 * 16 - side) for side in (height, width)]
    top, left = (pixels // 4 * 2 for pixels in grow)
    pad = ((top, grow[0] - top), (left, grow[1] - left))
    image = torch.from_numpy(np.pad(tile.image, ((0, 0), *pad), "reflect"))[None]
    valid = torch.from_numpy(np.pad(tile.valid, pad, "reflect"))[None]
    scores = network(normalise(image, valid))[0]
    return scores[:, top : top + height, left : left + width]


def compare(tile: SoftTile, mapped: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the confusion matrix of the teacher's classes (rows) and a map's, (H, W) from 0."""
    reference = tile.target.argmax(axis=0)
    return confusion(reference[tile.valid], mapped[tile.valid], len(tile.target))


def scene_fits(tile: SoftTile, mapped: NDArray[np.integer], names: list[str]) -> bool:
    """Tell whether the commonest class of a map, (H, W) from 0, is right for EuroSAT's scene."""
    majority = names[np.bincount(mapped[tile.valid], minlength=len(names)).argmax()]
    return majority in SCENES[tile.facts["scene"]]


def _row(name: str, value: float, data: str) -> dict[str, Any]:
    return {"name": name, "value": round(value, 4), "data": data}
