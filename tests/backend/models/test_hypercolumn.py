"""A head trained on single pixels maps whole images with the same numbers."""

from __future__ import annotations

import pytest
import torch

from mmearth.models.card import NetworkConfig
from mmearth.models.decoders import hypercolumn
from mmearth.models.levels import levels
from mmearth.models.registry import build_network

BASES = [
    ("unet", "doubleconv-16", {"encoder_depth": 3, "decoder_channels": [32, 16, 8]}, 7),
    ("features", "resnet18", {}, 0),
    ("features", "mmearth-atto-p8", {}, 0),
    ("features", "vit-tiny-p16", {}, 0),
    ("upconv", "vit-tiny-p16", {}, 3),
]


@pytest.fixture(params=BASES, ids=lambda base: f"{base[0]}-{base[1]}")
def base(request):
    decoder, encoder, options, classes = request.param
    torch.manual_seed(0)
    config = NetworkConfig(
        decoder=decoder, encoder=encoder, options=options, multiply_adds_per_pixel=1
    )
    network = build_network(config, in_channels=10, classes=classes).eval()
    return network, {**config.model_dump(), "classes": classes}


@torch.inference_mode()
def test_pixels_alone_and_whole_images_give_the_same_scores(base) -> None:
    network, config = base
    image = torch.randn(1, 10, 96, 64)
    maps = levels(network, image)
    assert maps[0] is image
    widths = [level.shape[1] for level in maps]
    options = {"base": config, "widths": widths, "hidden": 16}
    whole = build_network(
        NetworkConfig(
            decoder="hypercolumn", encoder="", options=options, multiply_adds_per_pixel=1
        ),
        in_channels=10,
        classes=4,
    ).eval()
    whole.base.load_state_dict(network.state_dict())
    whole.mean.copy_(torch.randn(sum(widths)))
    whole.scale.copy_(torch.rand(sum(widths)) + 0.5)
    rows, cols = torch.randint(0, 96, (200,)), torch.randint(0, 64, (200,))
    columns = hypercolumn.columns(maps, rows, cols)
    expected = whole(image)[0, :, rows, cols].T
    torch.testing.assert_close(whole.on_columns(columns), expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(columns[:, :10], image[0, :, rows, cols].T)
