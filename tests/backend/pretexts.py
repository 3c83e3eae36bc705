"""A data set that every method can learn from, and networks so small that it takes a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mmearth.api import PretrainOutputs, PretrainSpec
from mmearth.models.encoders.convnextv2 import ConvNeXtV2Encoder
from mmearth.models.encoders.pyramid import register
from mmearth.models.encoders.vit import ViTEncoder
from mmearth.models.parts import Normalisation
from mmearth.models.registry import build_encoder
from mmearth.pretraining.modality import UNKNOWN, Modality
from mmearth.pretraining.record import Recipe
from mmearth.pretraining.registry import build_method
from mmearth.training.task import Watch

register(
    "mmearth-toy-p8",
    ConvNeXtV2Encoder,
    depth=3,
    depths=(1, 1, 1, 1),
    widths=(16, 32, 64, 128),
    patch=8,
)
register(
    "vit-toy-p8", ViTEncoder, 4, image_first=True, width=64, blocks=4, heads=2, patch=8, image=32
)
register(
    "specvit-toy", ViTEncoder, 4, spectral=True, width=32, blocks=4, heads=2, patch=4, image=16
)

SIDE, BANDS = 24, ("B02", "B04", "B08")
STEPS = 16
# Of each method, the fields of a request that suit the toy.
FIELDS = {
    "dino": {
        "encoder": "vit-toy-p8",
        "options": {
            "hidden": 128,
            "bottleneck": 128,
            "meanings": 32,
            "momentum": 0.9,
            "centre_momentum": 0.5,
            "least_crop": 0.8,
            "brightness": 0,
        },
    },
    "mae": {"encoder": "vit-toy-p8", "options": {"decoder_width": 64, "decoder_depth": 1}},
    "moco": {"encoder": "tu-test_resnet", "options": {"queue": 8, "momentum": 0.9}},
    "mp-mae": {"encoder": "mmearth-toy-p8", "options": {"decoder_width": 64}},
}


class Toy:
    """Images of few colours, and four more quantities that follow from them.

    ``change`` is made to every batch before it is given away.
    """

    modalities = (
        Modality("sentinel-2", "continuous", "pixel", 3, patch_norm=True),
        Modality("height", "continuous", "pixel", 1),
        Modality("cover", "categorical", "pixel", 2),
        Modality("climate", "continuous", "image", 2),
        Modality("biome", "categorical", "image", 2),
    )
    sensor, bands, levels, resolution_m = "sentinel-2", BANDS, ("L2A",), 10.0
    attribution, split, warnings, files = "Nobody.", "all", (), ()

    def __init__(self, change=lambda batch: None) -> None:
        self.normalisation = Normalisation(mean=(0.2,) * 3, std=(0.1,) * 3)
        self._change = change

    def __len__(self) -> int:
        return 100

    def draw(self, count, random):
        image, colour = self._images(count, random)
        batch = {
            "sentinel-2": image.clone(),
            "height": image[:, :1] - image[:, 1:2],
            "cover": (image[:, 2] > 0).long(),
            "climate": colour[:, :2, 0, 0].clone(),
            "biome": (colour[:, 2, 0, 0] > 0).long(),
        }
        batch["sentinel-2"][:, :, :3] = torch.nan
        batch["cover"][:, :3] = UNKNOWN
        if random.random() < 0.2:
            batch["height"][0], batch["biome"][0] = torch.nan, UNKNOWN
        self._change(batch)
        return batch

    def draw_views(self, count, random, views):
        image, _ = self._images(count, random)
        looks = []
        for _ in range(views):
            noise = random.normal(scale=0.1, size=image.shape).astype(np.float32)
            look = image + torch.from_numpy(noise)
            look[:, :, :3] = torch.nan
            self._change({"sentinel-2": look})
            looks.append(look)
        return looks

    def _images(self, count, random):
        coarse = torch.from_numpy(random.normal(size=(count, 3, 4, 4)).astype(np.float32))
        colour = torch.from_numpy(random.normal(size=(count, 3, 1, 1)).astype(np.float32))
        image = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bilinear") + colour
        return image, colour


def spec(name, folder=Path("/nowhere"), **fields) -> PretrainSpec:
    outputs = PretrainOutputs(model=str(folder / "encoder"))
    usual = {"crop": SIDE, **FIELDS.get(name, {})}
    return PretrainSpec(data="toy", method=name, outputs=outputs, **{**usual, **fields})


def build(name, data, weights=0, **fields):
    torch.manual_seed(weights)
    torch.set_num_threads(1)
    request = spec(name, **fields)
    encoder = build_encoder(request.encoder, in_channels=data.modalities[0].channels)
    return build_method(encoder, data.modalities, request)


def recipe(name, **fields) -> Recipe:
    rate = {"dino": 1e-3, "moco": 2e-2}.get(name, 5e-3)
    usual = {"steps": STEPS, "batch": 8, "learning_rate": rate, "every": 4, "held": 8}
    return Recipe(**{**usual, **fields})


class Stop:
    """Cancels a run after so many steps."""

    def __init__(self, steps) -> None:
        self._left = steps

    def watch(self) -> Watch:
        return Watch(self._count, lambda: self._left <= 0)

    def _count(self, progress, stage, eta) -> None:
        self._left -= 1


def same(first, second) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def apart(first, second) -> float:
    """Return how far apart the weights of two networks are, as a share of their size."""
    ours, theirs = (
        torch.cat([p.detach().flatten() for p in network.parameters()])
        for network in (first, second)
    )
    return float((ours - theirs).norm() / ours.norm())
