"""From reflectance to probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmearth.errors import ModelError
from mmearth.models.card import NetworkConfig, Normalisation
from mmearth.models.network import Network, Normaliser, Workload
from mmearth.models.registry import build_network
from mmearth.models.save import save_model
from mmearth.settings import Settings
from mmearth.training.calibration import probabilities_at


def test_nodata_becomes_zero_after_normalisation() -> None:
    normalise = Normaliser(Normalisation(mean=(0.2, 0.4), std=(0.1, 0.1)))
    image = torch.tensor([0.3, 0.3]).reshape(1, 2, 1, 1).repeat(1, 1, 1, 2)
    mask = torch.tensor([[[True, False]]])
    values = normalise(image, mask)
    torch.testing.assert_close(values[0, :, 0, 0], torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(values[0, :, 0, 1], torch.zeros(2))


def test_logarithm() -> None:
    normalise = Normaliser(Normalisation(function="log1p", gain=20.0, mean=(1.0,), std=(2.0,)))
    image = torch.tensor([[[[0.25, -0.01]]]])
    values = normalise(image, torch.ones(1, 1, 2, dtype=torch.bool))
    expected = (np.log1p([5.0, 0.0]) - 1) / 2
    np.testing.assert_allclose(values[0, 0, 0], expected, rtol=1e-6)


def test_probabilities_add_up_and_masked_pixels_are_finite(tiny_model, settings) -> None:
    network = Network(tiny_model, settings)
    images = np.random.default_rng(0).uniform(0, 0.5, (2, 10, 64, 64)).astype(np.float32)
    masks = np.ones((2, 64, 64), bool)
    masks[:, :20] = False
    probabilities = network.probabilities(images, masks)
    assert probabilities.shape == (2, 3, 64, 64)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 64, 64))


def test_scores_of_each_class_are_divided_by_its_own_temperature(
    tiny_facts, tmp_path, settings, images
) -> None:
    own = (0.5, 1.0, 4.0)
    changes = {"products": tiny_facts["products"], "temperature": own}
    network = Network(saved(tiny_facts, tmp_path, 3, **changes), settings)
    found = network.probabilities(*images)
    with torch.inference_mode():
        scores = network.scores(*(torch.from_numpy(part) for part in images))
    divided = np.exp(scores.numpy().astype(np.float64) / np.reshape(own, (1, 3, 1, 1)))
    expected = divided / divided.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # What temperatures are fitted with is what maps are made with.
    pixels = scores.permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    np.testing.assert_allclose(
        probabilities_at(pixels, own), found.permute(0, 2, 3, 1).reshape(-1, 3), rtol=1e-5
    )


def saved(tiny_facts, tmp_path, outputs, *, bias=0.0, **changes):
    """A model of another task, whose scores lie about a bias."""
    torch.manual_seed(2)
    facts = {**tiny_facts, "products": (), **changes}
    module = build_network(facts["network"], in_channels=10, classes=outputs)
    *_, last = (part for part in module.modules() if hasattr(part, "bias"))
    torch.nn.init.constant_(last.bias, bias)
    return save_model(tmp_path / "model", module.state_dict(), facts)


@pytest.fixture
def images():
    values = np.random.default_rng(0).uniform(0, 0.5, (2, 10, 64, 64)).astype(np.float32)
    return values, np.ones((2, 64, 64), bool)


@pytest.mark.parametrize(("bias", "least", "most"), [(-999, 0, 0), (0, 0.01, 0.99), (999, 1, 1)])
def test_values_stay_within_their_range(
    tiny_facts, tmp_path, settings, images, bias, least, most
) -> None:
    low, high = 0.1, 0.3
    value = {"name": "height", "title": "canopy height", "unit": "m", "range": (low, high)}
    changes = {"task": "regression", "classes": (), "value": value}
    network = Network(saved(tiny_facts, tmp_path, 1, bias=bias, **changes), settings)
    found = network.values(*images)
    assert found.shape == (2, 1, 64, 64)
    assert (found >= low).all() and (found <= high).all()
    shares = (found - low) / (high - low)
    assert shares.min() > least - 1e-5 and shares.max() < most + 1e-5
    tensors = [torch.from_numpy(part) for part in images]
    with torch.inference_mode():
        scores = network.scores(*tensors)
    torch.testing.assert_close(found, low + (high - low) * torch.sigmoid(scores))
    for other in (network.probabilities, network.scene_probabilities):
        with pytest.raises(ModelError, match=r"predicts canopy height, .* m; it does not"):
            other(*images)


def test_labels_of_a_scene_do_not_exclude_each_other(
    tiny_facts, tmp_path, settings, images
) -> None:
    config = NetworkConfig(decoder="scene", encoder="resnet18", multiply_adds_per_pixel=1)
    changes = {"task": "scene-labels", "network": config, "stride": 32, "temperature": 2.0}
    network = Network(saved(tiny_facts, tmp_path, 3, bias=4.0, **changes), settings)
    found = network.scene_probabilities(*images)
    assert found.shape == (2, 3) and ((found >= 0) & (found <= 1)).all()
    tensors = [torch.from_numpy(part) for part in images]
    with torch.inference_mode():
        scores = network.scores(*tensors)
    expected = 1 / (1 + np.exp(-scores.numpy().astype(np.float64) / 2))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (found > 0.6).all()  # what one image shows adds up to more than 1
    for other in (network.probabilities, network.values):
        with pytest.raises(ModelError, match="labels whole images"):
            other(*images)


@pytest.mark.parametrize("cores", [1, 2, 6, 16])
def test_lanes_follow_memory_and_use_all_cores(tiny_model, settings, cores) -> None:
    def workload(megabytes, tile=256):
        limits = {"memory_mb": megabytes, "threads": cores}
        return Network(tiny_model, settings.model_copy(update=limits)).workload(tile)

    assert workload(1) == Workload(1, lanes=1, threads=cores)
    assert workload(16_000) == Workload(1, lanes=cores, threads=1)
    for megabytes in (20, 50, 100, 200):
        found = workload(megabytes)
        assert found.lanes * found.threads >= cores
        assert found.lanes <= workload(megabytes, tile=128).lanes


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a graphics card")
def test_absent_device_is_said(tiny_model, settings) -> None:
    with pytest.raises(ModelError, match="No CUDA device"):
        Network(tiny_model, Settings(home=settings.home, device="cuda"))
