"""Features are those of the encoder alone, whatever model it belongs to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmearth.errors import ModelError
from mmearth.models.card import NetworkConfig
from mmearth.models.features import FeatureNetwork
from mmearth.models.network import Network
from mmearth.models.registry import build_network
from mmearth.models.save import save_model

RANDOM = np.random.default_rng(0)


@pytest.fixture
def make_model(tmp_path, tiny_facts):
    """Return a function that saves a model of random weights, an encoder if it has no decoder."""

    def make(encoder, decoder="features", stride=16, **options):
        torch.manual_seed(0)
        config = NetworkConfig(
            decoder=decoder, encoder=encoder, options=options, multiply_adds_per_pixel=1
        )
        facts = {**tiny_facts, "network": config, "stride": stride}
        if decoder == "features":
            facts.update(task="features", classes=(), products=())
        module = build_network(config, in_channels=10, classes=len(facts["classes"]))
        return save_model(tmp_path / encoder, module.state_dict(), facts, half=False)

    return make


def test_of_a_model_that_maps_classes(tiny_model, settings) -> None:
    network = FeatureNetwork(tiny_model, settings)
    images = RANDOM.uniform(0, 0.5, (2, 10, 64, 48)).astype(np.float32)
    masks = np.ones((2, 64, 48), bool)
    found = network.features(images, masks)
    assert found.shape == (2, network.channels, 64 // network.cell, 48 // network.cell)
    assert tiny_model.stride % network.cell == 0 and network.cell > 1

    seen = []
    whole = Network(tiny_model, settings)
    whole._module.encoder.register_forward_hook(lambda _m, _i, maps: seen.extend(maps))
    whole.probabilities(images, masks)
    (expected,) = [level for level in seen if level.shape[-1] == 48 // network.cell]
    torch.testing.assert_close(found, expected)


def test_of_each_stride(tiny_model, settings) -> None:
    for stride, channels in ((1, 16), (2, 32)):
        network = FeatureNetwork(tiny_model, settings, stride)
        assert (network.cell, network.channels) == (stride, channels)
    with pytest.raises(ModelError, match="covers 3 x 3 pixels; it offers 1, 2"):
        FeatureNetwork(tiny_model, settings, 3)


@pytest.mark.parametrize(
    ("encoder", "cell", "channels"),
    [("mmearth-atto-p8", 8, 320), ("resnet18", 32, 512), ("detail-resnet18", 16, 512)],
)
def test_of_encoders(make_model, settings, encoder, cell, channels) -> None:
    network = FeatureNetwork(make_model(encoder, stride=32), settings)
    assert (network.cell, network.channels) == (cell, channels)


def test_of_a_transformer_they_are_tokens_not_the_untrained_neck(make_model, settings) -> None:
    card = make_model("vit-tiny-p16")
    network = FeatureNetwork(card, settings)
    assert (network.cell, network.channels) == (16, 192)
    images = RANDOM.uniform(0, 0.5, (1, 10, 96, 64)).astype(np.float32)
    found = network.features(images, np.ones((1, 96, 64), bool))
    core = network._module.encoder.vit_core
    with torch.inference_mode():
        values = network._normalise(
            torch.from_numpy(images), torch.ones(1, 96, 64, dtype=torch.bool)
        )
        tokens = core.forward_features(values)[:, 1:]
    torch.testing.assert_close(found[0].flatten(1).T, tokens[0], atol=1e-4, rtol=1e-3)


def test_maps_that_have_no_place_are_refused(make_model, settings) -> None:
    """The published classification networks do not pad: of 8 x 8 cells they make 7 x 7."""
    with pytest.raises(ModelError, match="no fixed place on the map"):
        FeatureNetwork(make_model("mmearth-atto-p8-scene", stride=8), settings)
