"""The list of published encoders: each can be built, and its bands are in its own order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmearth.errors import ModelError
from mmearth.models.network import Normaliser
from mmearth.models.registry import build_encoder
from mmearth.models.store.published import find_published, published_models
from mmearth.sensors import load_sensor

MODELS = {model.id: model for model in published_models()}


def test_names_differ() -> None:
    assert len(MODELS) == len(published_models()) > 20


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_entry(model) -> None:
    sensor = load_sensor(model.sensor)
    assert all(sensor.band(name) for name in model.bands)
    for level in model.levels:
        norm = model.normalisation(level)
        assert len(norm.mean) == len(norm.std) == len(model.bands)
    assert model.licence_words
    if model.access == "download":
        assert model.url.startswith("https://")
    else:
        assert model.page.startswith("https://") and model.file


@pytest.mark.parametrize(
    ("encoder", "bands", "image"),
    sorted({(model.encoder, len(model.bands), model.image) for model in MODELS.values()}),
)
def test_each_encoder_can_be_built(encoder, bands, image) -> None:
    """On torch's device without memory, where the largest costs nothing."""
    with torch.device("meta"), torch.inference_mode():
        network = build_encoder(encoder, in_channels=bands).eval()
        deepest = network(torch.empty(1, bands, image, image))[-1]
    side = image // network.output_stride
    assert deepest.shape == (1, network.out_channels[-1], side, side) and side > 1


def test_two_conventions_of_band_8a_are_kept() -> None:
    """MMEarth has it before band 8, SSL4EO-S12 after."""
    mmearth = find_published("mmearth-all-mod-atto-1m-64-uncertainty-56-8").bands
    ssl4eo = find_published("ssl4eo-resnet50-all-moco").bands
    assert mmearth.index("B8A") == mmearth.index("B08") - 1
    assert ssl4eo.index("B8A") == ssl4eo.index("B08") + 1
    assert len(ssl4eo) == 13 and "B10" in ssl4eo and "B10" not in mmearth


def test_published_statistics_apply_to_reflectance() -> None:
    """The mean of MMEarth64 in Level-1C becomes 0, one deviation above it 1; no-data becomes 0."""
    model = find_published("mmearth-all-mod-atto-1m-64-uncertainty-56-8")
    normalise = Normaliser(model.normalisation("L1C"))
    stored = np.array([1864.88, 1656.99, 1561.24, 1633.60, 1846.64, 2422.14, 2706.17, 2907.51,
                       2620.48, 974.48, 2154.06, 1464.80], np.float32)  # fmt: skip
    image = torch.from_numpy(stored / 10_000)[None, :, None, None].expand(1, 12, 1, 2)
    mask = torch.tensor([[[True, False]]])
    found = normalise(image, mask)
    torch.testing.assert_close(found[..., 0], torch.zeros(1, 12, 1), atol=1e-4, rtol=0)
    assert (normalise(torch.zeros(1, 12, 1, 2), mask)[..., 1] == 0).all()
    assert (normalise(torch.zeros(1, 12, 1, 2), mask)[..., 0] < -0.5).all()


def test_ssl4eo_cuts_reflectance_off_at_one() -> None:
    normalise = Normaliser(find_published("ssl4eo-resnet50-rgb-moco").normalisation("L1C"))
    image = torch.tensor([-0.05, 0.3, 1.7])[None, :, None, None]
    found = normalise(image, torch.ones(1, 1, 1, dtype=torch.bool)).flatten()
    torch.testing.assert_close(found, torch.tensor([0.0, 0.3, 1.0]))


def test_statistics_of_photographs_are_of_brightness() -> None:
    """As of torchvision's ImageNet weights, whose input is a picture scaled to 0 to 1."""
    model = find_published("imagenet-resnet18")
    scale = load_sensor(model.sensor).scale
    image = torch.tensor([124.0, 116.0, 104.0])[None, :, None, None] * scale  # 8 bits
    (level,) = model.levels
    found = Normaliser(model.normalisation(level))(image, torch.ones(1, 1, 1, dtype=torch.bool))
    torch.testing.assert_close(found.flatten(), torch.zeros(3), atol=0.02, rtol=0)
    assert model.bands == ("red", "green", "blue")


def test_radar_is_read_in_decibels_and_cut_off_at_two_deviations() -> None:
    """Mean 0.5, two deviations below and above it 0 and 1, nothing beyond; no-data becomes 0."""
    normalise = Normaliser(find_published("ssl4eo-s1-resnet50-moco").normalisation("GRD"))
    mean, std = np.array([-12.54847273, -20.19237134]), np.array([5.25697717, 5.91150917])
    steps = [0, -2, 2, -5, 5, 0]
    image = torch.tensor(np.stack([mean + step * std for step in steps], axis=1)).float()
    mask = torch.tensor([[[True, True, True, True, True, False]]])
    found = normalise(image[None, :, None], mask)[0, :, 0]
    expected = torch.tensor([[0.5, 0.0, 1.0, 0.0, 1.0, 0.0]]).expand(2, 6)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_every_mmearth_file_of_its_list_is_there() -> None:
    """Inputs and modalities of MMEarth-train's README; ImageNet has a stem of its own."""
    for name in ("all-mod", "img-mod", "pix-mod", "s2", "rgb"):
        assert f"mmearth-{name}-atto-1m-64-uncertainty-56-8" in MODELS
    model = find_published("mmearth-imagenet-atto-200epochs-224-32")
    assert model.encoder.endswith("p32-original") and model.bands == ("red", "green", "blue")
    norm = model.normalisation("picture")
    assert norm.mean == (0.485, 0.456, 0.406) and norm.std == (0.229, 0.224, 0.225)


def test_a_level_it_was_not_trained_on_is_refused() -> None:
    with pytest.raises(ModelError, match="not trained on level L2A"):
        find_published("ssl4eo-resnet50-all-moco").normalisation("L2A")
    with pytest.raises(ModelError, match="No published model"):
        find_published("nonsense")


def test_hashes_fit_the_names_of_files() -> None:
    """torch.hub puts the first eight digits of a file's SHA-256 into its name."""
    stated = [model for model in published_models() if model.sha256]
    for model in stated:
        assert model.sha256[:8] in model.file_name
        assert len(model.sha256) == (64 if model.size else 8)
    assert len(stated) >= 10
