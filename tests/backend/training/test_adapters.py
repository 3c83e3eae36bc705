"""Adapters start as nothing, leave the frozen weights alone, and vanish into them when merged."""

from __future__ import annotations

import pytest
import torch

from mmearth.models.card import NetworkConfig
from mmearth.models.registry import build_encoder, build_network
from mmearth.training.adapters import (
    SLOWEST,
    add_adapters,
    layer_speeds,
    merge_adapters,
    parameter_groups,
)


def build(decoder="unet", encoder="doubleconv-16", bands=4, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    config = NetworkConfig(
        decoder=decoder, encoder=encoder, options=options, multiply_adds_per_pixel=1
    )
    return build_network(config, in_channels=bands, classes=3).eval()


@pytest.mark.parametrize(
    ("decoder", "encoder"),
    [("unet", "doubleconv-16"), ("unet", "mmearth-atto-p8"), ("upconv", "vit-tiny-p16")],
)
def test_start_as_nothing_and_merge_without_a_trace(decoder, encoder) -> None:
    network = build(decoder, encoder)
    image = torch.randn(1, 4, 64, 64)
    keys = set(network.state_dict())
    with torch.inference_mode():
        before = network(image)
    trained = add_adapters(network.encoder)
    total = sum(weight.numel() for weight in network.encoder.parameters())
    assert 0 < sum(weight.numel() for weight in trained) < 0.35 * total
    with torch.inference_mode():
        torch.testing.assert_close(network(image), before)
    for weight in trained:
        torch.nn.init.normal_(weight, std=0.1)
    with torch.inference_mode():
        changed = network(image)
    assert (changed - before).abs().max() > 5e-5
    merge_adapters(network)
    assert set(network.state_dict()) == keys
    with torch.inference_mode():
        torch.testing.assert_close(network(image), changed)


def test_only_adapters_norms_and_decoder_learn() -> None:
    network = build()
    add_adapters(network.encoder)
    frozen = {name: value.clone() for name, value in network.named_parameters()
              if not value.requires_grad}  # fmt: skip
    groups = parameter_groups(network, {}, 0.1, 0.01)
    network(torch.randn(1, 4, 32, 32)).square().sum().backward()
    torch.optim.AdamW(groups).step()
    now = dict(network.named_parameters())
    assert frozen and all(torch.equal(now[name], value) for name, value in frozen.items())
    assert all(name.startswith("encoder.") for name in frozen)


def test_of_spectral_encoders_the_spectral_adapter() -> None:
    encoder = build_encoder("specresnet50", in_channels=80)
    add_adapters(encoder)
    for name, weight in encoder.named_parameters():
        assert weight.requires_grad == name.startswith("spectral_adapter.")


def test_deeper_layers_learn_faster() -> None:
    network = build(encoder="resnet18")
    speeds = layer_speeds(network, network.encoder, torch.zeros(1, 4, 64, 64))
    assert set(speeds) == {name for name, _ in network.named_parameters()}
    first, middle, last = (
        speeds[f"encoder.{name}.weight"] for name in ("conv1", "layer2.0.conv1", "layer4.1.conv2")
    )
    assert first == pytest.approx(SLOWEST) and first < middle < last < 1
    assert speeds["segmentation_head.0.weight"] == 1
    groups = parameter_groups(network, speeds, 0.01, 0.1)
    assert sum(len(group["params"]) for group in groups) == len(speeds)
    assert {group["peak"] for group in groups} == {0.01 * speed for speed in speeds.values()}
