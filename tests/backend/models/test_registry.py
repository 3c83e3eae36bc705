"""Every registered decoder and encoder builds, runs, trains and reloads; models are found."""

from __future__ import annotations

import shutil

import pytest
import torch

from mmearth.errors import ModelError
from mmearth.models.card import NetworkConfig
from mmearth.models.registry import DECODERS, build_network, find_model, installed_models

# One line a network: decoder, encoder, options.
NETWORKS = [
    ("unet", "doubleconv-16", {"encoder_depth": 5, "decoder_channels": [32, 32, 16, 16, 8]}),
    ("unet", "doubleconv-24", {"encoder_depth": 3, "decoder_channels": [32, 16, 8]}),
    ("unet", "doubleconv-32", {"encoder_depth": 2, "decoder_channels": [16, 8]}),
    ("unet", "resnet18", {"encoder_depth": 4, "decoder_channels": [64, 32, 16, 8]}),
    ("unet", "mmearth-atto-p16", {}),
    ("conv", "vit-tiny-p16", {}),
    ("cosine", "separable-48", {}),
    ("deeplabv3plus", "detail-resnet18", {}),
    ("fcn", "resnet18", {}),
    ("linear", "mmearth-atto-p8", {}),
    ("linear", "spectrum", {}),
    ("mmearth-unet", "mmearth-atto-p8", {}),
    ("scene", "resnet18", {}),
    ("scene", "mmearth-atto-p8-scene", {}),
    ("scene", "vit-tiny-p16", {}),
    ("upconv", "vit-tiny-p16", {}),
]


def test_every_decoder_is_tested() -> None:
    # "features" gives no class scores: tests/backend/models/store/test_published_weights.py.
    # "hypercolumn" is built on another network: tests/backend/models/test_hypercolumn.py.
    # "onnx" is built from a file, on no encoder: tests/backend/models/test_onnx.py.
    assert {decoder for decoder, _, _ in NETWORKS} == set(DECODERS) - {
        "features",
        "hypercolumn",
        "onnx",
    }


@pytest.mark.parametrize(("decoder", "encoder", "options"), NETWORKS)
class TestModelContract:
    """Rules that every network keeps."""

    @pytest.fixture
    def network(self, decoder, encoder, options) -> torch.nn.Module:
        torch.manual_seed(0)
        config = NetworkConfig(
            decoder=decoder, encoder=encoder, options=options, multiply_adds_per_pixel=1
        )
        return build_network(config, in_channels=10, classes=7)

    @pytest.mark.parametrize("side", [64, 96])
    def test_shape(self, network, decoder, side) -> None:
        with torch.inference_mode():
            scores = network.eval()(torch.randn(2, 10, side, 64))
        assert scores.shape == ((2, 7) if decoder == "scene" else (2, 7, side, 64))
        assert torch.isfinite(scores).all()

    def test_every_weight_learns(self, network) -> None:
        network.train()(torch.randn(2, 10, 64, 64)).square().mean().backward()
        idle = [
            name
            for name, weight in network.named_parameters()
            if weight.grad is None and not name.startswith("encoder.layer4")
        ]
        assert idle == []

    def test_reload_gives_the_same_scores(self, network, decoder, encoder, options) -> None:
        config = NetworkConfig(
            decoder=decoder, encoder=encoder, options=options, multiply_adds_per_pixel=1
        )
        other = build_network(config, in_channels=10, classes=7)
        other.load_state_dict(network.state_dict())
        image = torch.randn(1, 10, 64, 64)
        with torch.inference_mode():
            torch.testing.assert_close(network.eval()(image), other.eval()(image))

    def test_a_single_score_will_do(self, decoder, encoder, options) -> None:
        """As regression needs it."""
        config = NetworkConfig(
            decoder=decoder, encoder=encoder, options=options, multiply_adds_per_pixel=1
        )
        network = build_network(config, in_channels=10, classes=1).eval()
        with torch.inference_mode():
            scores = network(torch.randn(1, 10, 64, 64))
        assert scores.shape == ((1, 1) if decoder == "scene" else (1, 1, 64, 64))

    def test_batch_does_not_matter(self, network) -> None:
        images = torch.randn(3, 10, 64, 64)
        with torch.inference_mode():
            together = network.eval()(images)
            apart = torch.cat([network(image[None]) for image in images])
        torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_full_resolution_reaches_the_decoder() -> None:
    config = NetworkConfig(
        decoder="unet",
        encoder="doubleconv-16",
        options={"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
        multiply_adds_per_pixel=1,
    )
    encoder = build_network(config, in_channels=10, classes=2).encoder
    shapes = [tuple(f.shape[1:]) for f in encoder(torch.zeros(1, 10, 32, 32))]
    assert shapes == [(10, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert encoder.output_stride == 4


def test_unknown_decoder_is_said() -> None:
    config = NetworkConfig(decoder="transformer9", encoder="x", multiply_adds_per_pixel=1)
    with pytest.raises(ModelError, match="transformer9"):
        build_network(config, in_channels=3, classes=2)


@pytest.mark.parametrize(
    ("encoder", "options"), [("nonsense99", {}), ("doubleconv-16", {"decoder_channels": [16]})]
)
def test_unknown_encoder_or_option_is_said(encoder, options) -> None:
    config = NetworkConfig(
        decoder="unet", encoder=encoder, options=options, multiply_adds_per_pixel=1
    )
    with pytest.raises(ModelError, match="cannot be built"):
        build_network(config, in_channels=3, classes=2)


def test_models_go_by_their_card_not_by_their_folder(tiny_model, tmp_path) -> None:
    shutil.copytree(tiny_model.folder, tmp_path / "renamed")
    assert find_model("tiny", [tmp_path]).folder == tmp_path / "renamed"
    with pytest.raises(ModelError, match="Installed models: tiny"):
        find_model("renamed", [tmp_path])


def test_models_are_found(tiny_model) -> None:
    folders = [tiny_model.folder.parent]
    assert [card.id for card in installed_models(folders)] == ["tiny"]
    assert find_model("tiny", folders) == tiny_model


@pytest.mark.parametrize("name", ["nothing", "../models/tiny", ""])
def test_unknown_models_list_the_known(tiny_model, name) -> None:
    with pytest.raises(ModelError, match="Installed models: tiny"):
        find_model(name, [tiny_model.folder.parent])


def test_damaged_models_do_not_hide_the_others(tiny_model, tmp_path) -> None:
    shutil.copytree(tiny_model.folder, tmp_path / "tiny")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.json").write_text("{")
    assert [card.id for card in installed_models([tmp_path])] == ["tiny"]
    with pytest.raises(ModelError, match="card of model broken"):
        find_model("broken", [tmp_path])
