"""A published file becomes a model folder that computes what the file does."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from goldens import Golden, image, mmearth_file
from safetensors.torch import load_file
from stac import check_stac

from mmearth.errors import ModelError
from mmearth.models.network import Network
from mmearth.models.registry import build_encoder, find_model
from mmearth.models.store.published import find_published
from mmearth.models.store.weights import import_published

MMEARTH = "mmearth-all-mod-atto-1m-64-uncertainty-56-8"


@pytest.fixture
def imported(tmp_path):
    return import_published(find_published(MMEARTH), mmearth_file(tmp_path), tmp_path / "models")


def test_features_are_the_published_ones(imported, settings) -> None:
    network = Network(imported, settings)
    norm = imported.normalisation
    mean, std = (torch.tensor(v)[:, None, None] for v in (norm.mean, norm.std))
    reflectance = image(12, 56) * std + mean  # normalised, it is the golden's input
    with torch.inference_mode():
        found = network.scores(reflectance, torch.ones(2, 56, 56, dtype=torch.bool))
    golden = Golden("mmearth_convnextv2_atto_p8_unet")
    expected = golden.outputs["deepest"]
    found = found[:1, ::20].numpy()
    assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected)


def test_the_card_says_what_it_is(imported, tmp_path) -> None:
    card = find_model(f"{MMEARTH}-l1c", [tmp_path / "models"])
    assert card == imported
    assert card.task == "features"
    assert card.levels == ("L1C",) and card.bands.index("B8A") < card.bands.index("B08")
    assert "not for commercial use" in (card.folder / "README.md").read_text("utf-8")
    assert card.network.multiply_adds_per_pixel > 1000
    with pytest.raises(ModelError, match="maps nothing by itself"):
        card.product(None)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvisions_files_become_encoders_of_pictures(name, tmp_path) -> None:
    from torchvision import models

    torch.manual_seed(0)
    theirs = getattr(models, name)().eval()
    path = tmp_path / f"{name}.pth"
    torch.save(theirs.state_dict(), path)
    model = find_published(f"imagenet-{name}")
    with pytest.raises(ModelError, match="SHA-256 that begins with"):
        import_published(model, path, tmp_path / "models")
    card = import_published(model.model_copy(update={"sha256": ""}), path, tmp_path / "models")
    assert card.sensor == "aerial-rgb" and card.quantity == "brightness"
    state = load_file(card.weights)
    assert not [key for key in state if "fc" in key]
    encoder = build_encoder(name, in_channels=3).eval()
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in state.items()})
    tile = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        pooled = encoder(tile)[-1].mean(dim=(2, 3))
        torch.testing.assert_close(theirs.fc(pooled), theirs(tile))


def test_cards_of_every_family_follow_stac(imported, tmp_path) -> None:
    assert item_of(imported)["properties"]["license"] == "other"
    assert imported.licence == find_published(MMEARTH).licence
    for name in ("ssl4eo-resnet18-all-moco", "ssl4eo-s1-resnet50-moco", "spectralearth-rn50-moco"):
        model = find_published(name).model_copy(update={"sha256": ""})
        state = build_encoder(model.encoder, in_channels=len(model.bands)).state_dict()
        torch.save(state, tmp_path / "encoder.pth")
        card = import_published(model, tmp_path / "encoder.pth", tmp_path / "models")
        assert card.licence == model.licence
        check_stac(item_of(card))
    check_stac(item_of(imported))


def item_of(card):
    return json.loads((card.folder / "model.json").read_text("utf-8"))


def test_a_file_with_another_hash_is_refused(tmp_path) -> None:
    model = find_published("ssl4eo-resnet18-all-moco")
    state = build_encoder("resnet18", in_channels=13).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    with pytest.raises(ModelError, match="SHA-256 that begins with 59bfdff9"):
        import_published(model, tmp_path / "resnet18.pth", tmp_path / "models")
    assert not (tmp_path / "models").exists()
    digest = hashlib.sha256((tmp_path / "resnet18.pth").read_bytes()).hexdigest()
    right = model.model_copy(update={"sha256": digest[:8]})
    card = import_published(right, tmp_path / "resnet18.pth", tmp_path / "models")
    assert card.id == model.id and card.stride == 32
