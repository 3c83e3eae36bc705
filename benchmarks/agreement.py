"""How well a land-cover model agrees with its teacher, and with the scenes of EuroSAT.

Tiles are read from their files and mapped with the code that users run.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.api import RasterInput
from mmearth.inference.predict import class_probabilities, compute_rows
from mmearth.inference.tiles import Layout
from mmearth.models.card import ModelCard
from mmearth.models.network import Network
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


def measure(card: ModelCard, tiles: list[SoftTile], held_out: set[str]) -> list[dict[str, Any]]:
    """Measure a saved model with the code that users run, tile by tile from the files."""
    network = Network(card, Settings(threads=torch.get_num_threads()))
    names = [known.name for known in card.classes]
    trees, threshold = names.index("trees"), card.product("treemask").threshold
    matrices: dict[str, NDArray[np.int64]] = defaultdict(
        lambda: np.zeros((len(names), len(names)), np.int64)
    )
    mask = np.zeros((2, 2), np.int64)
    right = {"student": 0, "teacher": 0, "student val": 0, "teacher val": 0}
    scenes = {"all": 0, "val": 0}
    for tile in tiles:
        scene = tile.facts.get("scene") in SCENES
        validated = tile.facts["split"] == "val" or tile.facts["source"] in held_out
        if not (scene or validated) or tile.facts["crs"] is None:
            continue
        probabilities = map_tile(network, tile)
        mapped = probabilities.argmax(axis=0)
        if scene:
            validation = tile.facts["split"] == "val"
            scenes["all"] += 1
            scenes["val"] += validation
            for who, classes in (("student", mapped), ("teacher", tile.target.argmax(axis=0))):
                fits = scene_fits(tile, classes, names)
                right[who] += fits
                right[f"{who} val"] += validation and fits
        if tile.facts["source"] in held_out:
            matrices[f"held out: {tile.facts['source']}"] += compare(tile, mapped)
        if tile.facts["split"] == "val":
            matrices["all"] += compare(tile, mapped)
            matrices[tile.facts["source"]] += compare(tile, mapped)
            truth = (tile.target.argmax(axis=0) == trees)[tile.valid].astype(int)
            mask += confusion(truth, (probabilities[trees] >= threshold)[tile.valid].astype(int), 2)
    data = "validation places, against the teacher"
    rows = [
        _row("Agreement", agreement(matrices["all"]), data),
        _row("Tree mask IoU", float(intersection_over_union(mask)[1]), data),
    ]
    for name, value in zip(names, intersection_over_union(matrices["all"]), strict=True):
        if not np.isnan(value):
            rows.append(_row(f"IoU {name}", float(value), data))
    for source, matrix in matrices.items():
        if source != "all":
            rows.append(_row(f"Agreement, {source}", agreement(matrix), data))
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
