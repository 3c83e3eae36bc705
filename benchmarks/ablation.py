"""What matters of a network and its training: one thing changed at a time, all else alike.

    python -m benchmarks ablation --data <folder with s2/index.json>

Each row is distilled from the teacher's soft labels on training tiles and measured on validation
tiles. All rows of a seed see the same crops in the same order, changed alike, for as many steps.

``MMEARTH_ABLATION_ROWS`` chooses rows, with commas between, ``MMEARTH_ABLATION_SEEDS`` how many
seeds and ``MMEARTH_ABLATION_STEPS`` how many steps. Each row and seed becomes a line of
``build/ablation.jsonl``, or of the file that ``MMEARTH_ABLATION_LINES`` names; what has a line
there of the same tiles, normalisation and encoder is not trained again. Rows that begin pretrained
need ``MMEARTH_PRETRAINED``, the folder of an encoder, made so on tiles of one size of pixels:

    python -m benchmarks.layout DATA/s2 build/s2
    mmearth pretrain --data build/s2 --like landcover-s2 --modalities sentinel-2 \\
        --encoder mmearth-atto-p16 --crop 64 --steps 300 --batch 32 --learning-rate 0.001 \\
        --output build/encoder

One to three minutes a row and seed on a core of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import ROOT
from benchmarks.agreement import compare
from benchmarks.boundary import rim
from benchmarks.common import MODEL, row
from mmearth.errors import listed
from mmearth.models.card import ModelCard, NetworkConfig, read_card
from mmearth.models.cost import multiply_adds_per_pixel
from mmearth.models.network import Normaliser
from mmearth.models.registry import build_network
from mmearth.sensors import load_sensor
from mmearth.training.augment import RadiometricJitter
from mmearth.training.design import load_base
from mmearth.training.distill import Recipe, boundary_divergence, distill, divergence
from mmearth.training.metrics import agreement, confusion, intersection_over_union
from mmearth.training.softlabels import INDEX, CropSampler, SoftTile, read_tiles
from mmearth.training.tune import faster_in_bfloat16

SEEDS = 3
STEPS = 200
STRIDE = 32  # multiple of all networks' strides
TREES = 1  # number of the teacher's class


@dataclass(frozen=True)
class Row:
    """What is trained.

    Attributes:
        decoder, encoder, options: see ``NetworkConfig``.
        boundary: weigh pixels near borders more.
        pretrained: begin with the encoder that ``MMEARTH_PRETRAINED`` names.
    """

    decoder: str
    encoder: str
    options: dict[str, Any] = field(default_factory=dict)
    boundary: bool = False
    pretrained: bool = False


FIVE = {"encoder_depth": 5, "decoder_channels": [128, 96, 48, 24, 16]}
FOUR = {"encoder_depth": 4, "decoder_channels": [128, 64, 32, 32]}
ROWS = {
    "resnet18-unet": Row("unet", "resnet18"),
    "resnet18-deeplabv3plus": Row("deeplabv3plus", "resnet18"),
    "convnextv2-unet": Row("unet", "mmearth-atto-p16-full"),
    "pretrained-convnextv2-unet": Row("unet", "mmearth-atto-p16-full", pretrained=True),
    "detail-resnet18-unet": Row("unet", "detail-resnet18-full"),
    "boundary-resnet18-unet": Row("unet", "resnet18", boundary=True),
    "doubleconv24-unet": Row("unet", "doubleconv-24", FIVE),
    "doubleconv32-unet": Row("unet", "doubleconv-32", FOUR),
    "separable48-cosine": Row("cosine", "separable-48"),
}
# The row that a row differs from in one thing; others differ in several.
PLAIN = {
    "resnet18-deeplabv3plus": "resnet18-unet",
    "convnextv2-unet": "resnet18-unet",
    "pretrained-convnextv2-unet": "convnextv2-unet",
    "detail-resnet18-unet": "resnet18-unet",
    "boundary-resnet18-unet": "resnet18-unet",
    "doubleconv24-unet": "resnet18-unet",
}


@dataclass(frozen=True)
class Line:
    """A row trained with a seed.

    Attributes:
        row, seed, steps: what was trained.
        begun: SHA-256 of what it hangs on besides: index of the tiles, normalisation, how it is
            trained, and the weights of the encoder that it begins with.
        agreement: with the teacher, over all validation pixels.
        tree_iou: of the class trees.
        boundary_iou: of the class trees, near its outline (``benchmarks.boundary``).
        multiply_adds: of the network for each pixel, in thousands.
        minutes: of one processor's time, for training.
    """

    row: str
    seed: int
    steps: int
    begun: str
    agreement: float
    tree_iou: float
    boundary_iou: float
    multiply_adds: float
    minutes: float


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    data = Path(os.environ.get("MMEARTH_DATA", "")) / "s2"
    if not (data / "index.json").is_file():
        return [row("not measured: --data names no folder with s2/index.json", np.nan)]
    chosen = os.environ.get("MMEARTH_ABLATION_ROWS", ",".join(ROWS)).split(",")
    seeds = range(int(os.environ.get("MMEARTH_ABLATION_SEEDS", SEEDS)))
    steps = int(os.environ.get("MMEARTH_ABLATION_STEPS", STEPS))
    path = Path(os.environ.get("MMEARTH_ABLATION_LINES", ROOT / "build" / "ablation.jsonl"))
    pretrained = os.environ.get("MMEARTH_PRETRAINED")
    if unknown := set(chosen) - set(ROWS):
        raise ValueError(
            f"MMEARTH_ABLATION_ROWS names {listed(sorted(unknown))}; expected {listed(ROWS)}."
        )
    if not pretrained:
        for name in [name for name in chosen if ROWS[name].pretrained]:
            print(f"  {name} is left out: MMEARTH_PRETRAINED names no encoder")
            chosen.remove(name)
    card = read_card(ROOT / "resources" / "models" / MODEL)
    starts = {
        name: read_card(Path(pretrained)) if pretrained and ROWS[name].pretrained else None
        for name in chosen
    }
    begun = {
        name: _digest(data, card, ROWS[name], _recipe(steps, 0), start)
        for name, start in starts.items()
    }
    lines = {
        (line.row, line.seed): line for line in _lines(path) if line.begun == begun.get(line.row)
    }
    tiles = read_tiles(data, card.bands, scale=load_sensor(card.sensor).scale)
    validation = [tile for tile in tiles if tile.facts["split"] == "val"]
    for seed in seeds:
        for name in chosen:
            if (name, seed) not in lines:
                student, cost, minutes = _trained(
                    name, _recipe(steps, seed), card, tiles, starts[name]
                )
                figures = _figures(student, Normaliser(card.normalisation), validation)
                line = Line(name, seed, steps, begun[name], *figures, cost, minutes)
                _append(path, line)
                lines[name, seed] = line
                print(f"    {name}, seed {seed}: {line.agreement:.4f}", flush=True)
    return _table({name: [lines[name, seed] for seed in seeds] for name in chosen})


def _table(found: dict[str, list[Line]]) -> list[dict[str, Any]]:
    table = []
    for name, lines in found.items():
        for what in ("agreement", "tree_iou", "boundary_iou"):
            values = [getattr(line, what) for line in lines]
            title = what.replace("_", " ").replace("iou", "IoU")
            table.append(row(f"{name}: {title} (± {_spread(values):.4f})", np.mean(values)))
        table.append(row(f"{name}: thousand multiply-adds a pixel", lines[0].multiply_adds))
        if (plain := PLAIN.get(name)) in found:
            for what in ("agreement", "tree_iou", "boundary_iou"):
                gains = [
                    getattr(one, what) - getattr(other, what)
                    for one, other in zip(lines, found[plain], strict=True)
                ]
                title = f"{what.replace('_', ' ').replace('iou', 'IoU')} gained on {plain}"
                table.append(row(f"{name}: {title} (± {_spread(gains):.4f})", np.mean(gains)))
    return table


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def _digest(data: Path, card: ModelCard, this: Row, recipe: Recipe, start: ModelCard | None) -> str:
    """Return the SHA-256 of what a line hangs on besides its seed.

    Code is not among it: after a change of networks or augmentation, remove the file of lines.
    """
    parts = [
        json.dumps([asdict(this), asdict(recipe), card.stride]).encode(),
        (data / INDEX).read_bytes(),
        card.normalisation.model_dump_json().encode(),
        start.sha256.encode() if start else b"",
    ]
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def _recipe(steps: int, seed: int) -> Recipe:
    return Recipe(
        steps=steps, batch=16, crop=64, learning_rate=1e-3, warm_up=steps // 8, seed=seed,
        mixed=faster_in_bfloat16(torch.device("cpu")),
    )  # fmt: skip


def _trained(
    name: str,
    recipe: Recipe,
    card: ModelCard,
    tiles: list[SoftTile],
    start: ModelCard | None,
) -> tuple[torch.nn.Module, float, float]:
    """Train a row with a seed; return also thousand multiply-adds a pixel, and minutes."""
    torch.manual_seed(recipe.seed)
    this = ROWS[name]
    config = NetworkConfig(
        decoder=this.decoder, encoder=this.encoder, options=this.options, multiply_adds_per_pixel=1
    )
    network = build_network(config, in_channels=len(card.bands), classes=len(card.classes))
    if start:
        network.encoder.load_state_dict(load_base(start)[0].encoder.state_dict())
    cost = multiply_adds_per_pixel(network.eval(), len(card.bands))
    normalise = Normaliser(card.normalisation)
    sensor = load_sensor(card.sensor)
    before = time.process_time()
    student = distill(
        network,
        normalise,
        CropSampler(
            [t for t in tiles if t.facts["split"] == "train"],
            recipe.crop,
            recipe.seed,
            step=card.stride,
        ),
        recipe,
        RadiometricJitter(),
        torch.tensor([sensor.band(band).wavelength_nm / 1000 for band in card.bands]),
        loss=boundary_divergence if this.boundary else divergence,
    )
    minutes = (time.process_time() - before) / 60
    return student, cost / 1000, round(minutes, 2)


@torch.inference_mode()
def _figures(
    network: torch.nn.Module, normalise: Normaliser, tiles: list[SoftTile]
) -> tuple[float, float, float]:
    """Return agreement, IoU and boundary IoU of trees over all tiles."""
    total = np.zeros((len(tiles[0].target),) * 2, np.int64)
    rims = np.zeros((2, 2), np.int64)
    for tile in tiles:
        grow = [(0, -side % STRIDE) for side in tile.valid.shape]
        image = torch.from_numpy(np.pad(tile.image, [(0, 0), *grow], "reflect"))[None]
        valid = torch.from_numpy(np.pad(tile.valid, grow, "reflect"))[None]
        scores = network(normalise(image, valid))[0, :, : tile.valid.shape[0]]
        mapped = scores[..., : tile.valid.shape[1]].argmax(dim=0).numpy()
        total += compare(tile, mapped)
        trees = [(classes == TREES) & tile.valid for classes in (tile.target.argmax(0), mapped)]
        found = [rim(mask, tile.valid).ravel().astype(int) for mask in trees]
        rims += confusion(*found, 2)
    trees_iou = intersection_over_union(total)[TREES]
    return agreement(total), float(trees_iou), float(intersection_over_union(rims)[1])


def _lines(path: Path) -> list[Line]:
    if not path.is_file():
        return []
    # Lines of before "begun" was kept tell nothing of what they hang on.
    return [Line(**{"begun": "", **json.loads(t)}) for t in path.read_text("utf-8").splitlines()]


def _append(path: Path, line: Line) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(line)) + "\n")
