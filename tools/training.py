"""What the tools that train embedded models share: calibration, whole tiles, figures, a log."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "resources" / "models"
sys.path[:0] = [str(ROOT / "backend"), str(ROOT)]

from mmearth.api import RasterInput, SegmentOutputs, SegmentSpec  # noqa: E402
from mmearth.inference.predict import class_probabilities, compute_rows  # noqa: E402
from mmearth.jobs.prepare import prepare  # noqa: E402
from mmearth.models.card import ModelCard, NetworkConfig  # noqa: E402
from mmearth.models.cost import multiply_adds_per_pixel  # noqa: E402
from mmearth.models.network import Network, Normaliser, loaded  # noqa: E402
from mmearth.models.registry import build_network  # noqa: E402
from mmearth.settings import Settings  # noqa: E402
from mmearth.training.distill import divergence  # noqa: E402
from mmearth.training.softlabels import SoftTile  # noqa: E402


def is_calibration(facts: dict[str, Any]) -> bool:
    """Put one training place in ten aside, by its entry, to fit temperature and threshold."""
    digest = hashlib.sha256(facts["group"].encode()).digest()
    return digest[0] % 10 == 0


def network_config(
    decoder: str, encoder: str, options: dict[str, Any], *, bands: int, classes: int
) -> NetworkConfig:
    """Return the configuration of a network, with its cost."""
    plain = NetworkConfig(
        decoder=decoder, encoder=encoder, options=options, multiply_adds_per_pixel=1
    )
    network = build_network(plain, in_channels=bands, classes=classes).eval()
    cost = multiply_adds_per_pixel(network, bands)
    return plain.model_copy(update={"multiply_adds_per_pixel": cost})


@torch.inference_mode()
def tile_scores(network: torch.nn.Module, normalise: Normaliser, tile: SoftTile) -> torch.Tensor:
    """Return the class scores of a whole tile, reflected to a multiple of 16. (K, H, W)."""
    height, width = tile.valid.shape
    grow = [((side + 16 + 15) // 16 * 16 - side) for side in (height, width)]
    top, left = grow[0] // 2, grow[1] // 2
    pad = ((top, grow[0] - top), (left, grow[1] - left))
    image = torch.from_numpy(np.pad(tile.image, ((0, 0), *pad), "reflect"))[None]
    valid = torch.from_numpy(np.pad(tile.valid, pad, "reflect"))[None]
    scores = network(normalise(image, valid))[0]
    return scores[:, top : top + height, left : left + width]


def fit_soft_temperature(scores: Sequence[torch.Tensor], tiles: Sequence[SoftTile]) -> float:
    """Return the temperature at which the scores of tiles are nearest to their soft labels."""
    pixels = sum(t.valid.sum() for t in tiles)

    def loss(temperature: float) -> float:
        return (
            sum(
                float(
                    divergence(
                        s[None] / temperature,
                        torch.from_numpy(t.target)[None],
                        torch.from_numpy(t.valid)[None],
                    )
                )
                * t.valid.sum()
                for s, t in zip(scores, tiles, strict=True)
            )
            / pixels
        )

    return float(min(np.round(np.geomspace(0.5, 2.0, 61), 3), key=loss))


def best_threshold(probability: np.ndarray, truth: np.ndarray) -> float:
    """Return the threshold of a binary map with the highest IoU; (n,) float, (n,) bool."""

    def iou(threshold: float) -> float:
        mapped = probability >= threshold
        return (mapped & truth).sum() / (mapped | truth).sum()

    return float(max(np.round(np.arange(0.2, 0.8, 0.01), 2), key=iou))


def map_file(card: ModelCard, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Map a raster with a saved model, found, scaled and tiled as in a user's job.

    Returns:
        Probabilities (K, H, W) float32 and valid (H, W) bool.
    """
    settings = Settings(models=card.folder.parent, threads=torch.get_num_threads())
    with rasterio.open(path) as dataset:
        small = max(dataset.shape) <= card.tile_size // 2
    spec = SegmentSpec(
        inputs=[RasterInput(path=str(path), label="")],
        model=card.id,
        outputs=SegmentOutputs(),
        tile_size=card.tile_size // 2 if small else None,  # most of a tile would be a mirror
    )
    ready = prepare(spec, settings)
    network = loaded(Network, card, settings)
    workload = network.workload(ready.layout.rows.tile)
    parts = list(compute_rows(ready.stack(), class_probabilities(network), ready.layout, workload))
    values = torch.cat([part.values for part in parts], dim=1).numpy()
    return values, np.concatenate([part.valid for part in parts])


def figure(name: str, value: float, data: str) -> dict[str, Any]:
    """Return a measured figure as cards hold it."""
    return {"name": name, "value": round(float(value), 4), "data": data}


class Log:
    """A line of JSON for each thing worth knowing of a run, beside the model."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "training.jsonl"
        self._start = time.monotonic()
        self._path.write_text("")
        recorded = {k: v for k, v in vars(options).items() if not isinstance(v, Path)}
        self.write(options=recorded, torch=torch.__version__)

    def write(self, **facts: Any) -> None:
        """Write and print a line."""
        line = json.dumps({"seconds": round(time.monotonic() - self._start), **facts})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)
