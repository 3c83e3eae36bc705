"""The masked autoencoder of transformers, beyond what every method keeps."""

from __future__ import annotations

import pytest
import torch
from pretexts import Toy, build

from mmearth.errors import InputError
from mmearth.models.encoders.vit import ViTEncoder
from mmearth.pretraining.autoencoder import VISIBLE
from mmearth.pretraining.mae import MAE
from mmearth.pretraining.modality import Modality

BANDS = 80


def encoder(**fields) -> ViTEncoder:
    torch.manual_seed(0)
    usual = {"width": 32, "blocks": 4, "heads": 2, "patch": 4, "image": 16}
    return ViTEncoder(**{**usual, **fields}).eval()


def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("side", [16, 24])
@pytest.mark.parametrize("spectral", [False, True])
def test_all_patches_visible_is_the_encoder_as_it_is(spectral, side) -> None:
    network = encoder(spectral=spectral)
    bands = BANDS if spectral else 3
    network.set_in_channels(bands)
    image = torch.randn(2, bands, side, side, generator=random())
    with torch.no_grad():
        seen = network.visible_tokens(image, torch.ones(2, side // 4, side // 4, dtype=torch.bool))
        (expected,) = network.token_maps(image, count=1)
        torch.testing.assert_close(seen[:, 1:].mT.view_as(expected), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(seen[:, 0], network.class_token(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize("spectral", [False, True])
def test_nothing_is_seen_of_what_is_hidden(spectral) -> None:
    network = encoder(spectral=spectral).train()  # its batch norm hears nothing of it either
    bands = BANDS if spectral else 3
    network.set_in_channels(bands)
    pretext = MAE(
        network, Modality("image", "continuous", "pixel", bands), mask_ratio=0.75, width=32, depth=1
    )
    batch = pretext.hide({"image": torch.randn(2, bands, 16, 16, generator=random())}, random())
    visible = batch[VISIBLE]
    assert visible.flatten(1).sum(dim=1).tolist() == [4, 4]
    hidden = ~visible.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    changed = torch.where(hidden, batch["image"] * 9 + 5, batch["image"])
    with torch.no_grad():
        told = pretext.tell(batch["image"], visible)
        again = pretext.tell(changed, visible)
    assert torch.equal(told[0], again[0])
    assert torch.equal(told[1]["image"], again[1]["image"])


def test_every_patch_of_the_decoder_is_where_it_lies() -> None:
    """Patches that are shown keep their places among mask tokens."""
    network = encoder()
    pretext = MAE(
        network, Modality("image", "continuous", "pixel", 3), mask_ratio=0.75, width=32, depth=1
    )
    pretext.decoder, pretext.norm = torch.nn.Identity(), torch.nn.Identity()
    pretext.head = torch.nn.Identity()
    image = torch.randn(1, 3, 16, 16, generator=random())
    visible = torch.zeros(1, 4, 4, dtype=torch.bool)
    visible[0, 1, 2] = visible[0, 3, 0] = True
    with torch.no_grad():
        told = pretext.tell(image, visible)[1]["image"][0]
        pretext.mask_token += 1
        moved = (pretext.tell(image, visible)[1]["image"][0] - told).abs().sum(dim=1) > 0
    assert torch.equal(moved, ~visible.flatten())


def test_hyperspectral_images_are_hidden_further() -> None:
    data = Toy()
    assert build("mae", data).mask_ratio == 0.75
    torch.manual_seed(0)
    hyperspectral = Modality("enmap", "continuous", "pixel", BANDS, patch_norm=True)
    data.modalities = (hyperspectral,)
    pretext = build("mae", data, encoder="specvit-toy", options={"decoder_width": 64})
    assert pretext.facts() == {"mask ratio": 0.9, "decoder": "1 blocks of 64 channels"}
    batch = {"enmap": torch.randn(2, BANDS, 24, 24, generator=random())}
    step = pretext(pretext.hide(batch, random()))
    step.total.backward()
    adapter = pretext.encoder.spectral_adapter[0].weight
    assert step.counts.tolist() == [2 * (36 - 3) * 16 * BANDS] and adapter.grad.abs().sum() > 0


def test_what_does_not_go_with_it_is_refused() -> None:
    with pytest.raises(InputError, match="learns from the image alone, not from height"):
        build("mae", Toy(), modalities=["sentinel-2", "height"])
    with pytest.raises(InputError, match="36 x 36 pixels cannot be cut into patches of 8"):
        build("mae", Toy(), crop=36)
    with pytest.raises(InputError, match="multiple of 32"):
        build("mae", Toy(), options={"decoder_width": 50})
