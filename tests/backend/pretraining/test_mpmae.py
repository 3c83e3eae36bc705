"""The masked autoencoder, beyond what every method keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmearth.errors import InputError
from mmearth.models.encoders.convnextv2 import ConvNeXtV2Encoder
from mmearth.pretraining.autoencoder import VISIBLE
from mmearth.pretraining.losses import modality_loss
from mmearth.pretraining.masking import enlarge
from mmearth.pretraining.modality import Modality
from mmearth.pretraining.mpmae import MPMAE
from mmearth.pretraining.pictures import COUNT, GAP, SCALE

IMAGE = Modality("image", "continuous", "pixel", 3, patch_norm=True)
COVER = Modality("cover", "categorical", "pixel", 4)
CLIMATE = Modality("climate", "continuous", "image", 2)


def pretext(*modalities, **options) -> MPMAE:
    torch.manual_seed(0)
    sizes = {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 16), "patch": 8, "depth": 3}
    return MPMAE(ConvNeXtV2Encoder(**sizes), modalities or (IMAGE,), width=32, **options)


def images(count=4, side=32) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def random(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss(network, batch, name) -> torch.Tensor:
    step = network(network.hide(batch, random()))
    return step.losses[network.tasks.index(name)]


def test_no_data_reaches_the_encoder_as_zero_and_targets_stay_as_they_were() -> None:
    # In MMEarth-train NaN reaches the encoder, and the target is zeroed with its input, in place.
    network = pretext()
    image = images()
    image[:, :, :5] = torch.nan
    batch = {"image": image.clone()}
    shown = network.hide(batch, random())
    step = network(shown)
    step.total.backward()
    assert torch.equal(batch["image"].nan_to_num(99), image.nan_to_num(99))
    assert step.total.isfinite()
    assert all(part.grad.isfinite().all() for part in network.parameters() if part.grad is not None)
    visible = shown[VISIBLE]
    seen = network.tell(image.nan_to_num(0), visible)[0]
    torch.testing.assert_close(step.features, seen)
    # As a target, however, 0 is something else than no data.
    assert loss(network, {"image": image.nan_to_num(0)}, "image") != step.losses[0]


def test_hidden_pixels_are_what_is_asked_for() -> None:
    network = pretext(Modality("image", "continuous", "pixel", 3))
    image = images()
    hidden = ~enlarge(network.hide({"image": image}, random())[VISIBLE], 8)[:, None]
    before = loss(network, {"image": image}, "image")
    other = torch.where(hidden, image + 3, image)
    assert loss(network, {"image": other}, "image") > before + 5


@pytest.mark.parametrize("one", [IMAGE, COVER, CLIMATE], ids=lambda one: one.name)
def test_every_modality_teaches_the_encoder(one) -> None:
    network = pretext(IMAGE, COVER, CLIMATE)
    batch = {
        "image": images(),
        "cover": torch.randint(4, (4, 32, 32), generator=random()),
        "climate": torch.randn(4, 2, generator=random()),
    }
    visible = network.hide(batch, random())[VISIBLE]
    told = network.tell(batch["image"], visible)[1][one.name]
    # Of this modality alone: the image is in every batch, and would teach it anyway.
    modality_loss(one, told, batch[one.name], ~visible.flatten(1), 8)[0].backward()
    touched = [
        name
        for name, part in network.heads.named_parameters()
        if part.grad is not None and part.grad.abs().sum() > 0
    ]
    assert {name.partition(".")[0] for name in touched} == {f"of-{one.name}"}
    assert network.encoder.stages[0][0].dwconv.weight.grad.abs().sum() > 0


def test_weights_of_tasks_are_learned() -> None:
    network = pretext(IMAGE, CLIMATE)
    batch = {"image": images(), "climate": torch.full((4, 2), torch.nan)}
    network(network.hide(batch, random())).total.backward()
    image, climate = network.weighting.log_vars.grad
    assert image != 0 and climate == 0  # nothing was known of it


def test_a_modality_may_have_any_name() -> None:
    names = [Modality(name, "continuous", "pixel", 1) for name in ("type", "values", "to")]
    assert pretext(IMAGE, *names).heads.keys() == {"of-image", "of-type", "of-values", "of-to"}


def test_weights_of_encoder_and_decoder_are_there_once() -> None:
    names = list(pretext(IMAGE, COVER).state_dict())
    own = [name.removeprefix("encoder.") for name in names if name.startswith("encoder.")]
    sizes = {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 16), "patch": 8, "depth": 3}
    assert own == list(ConvNeXtV2Encoder(**sizes).state_dict())
    rest = {name.partition(".")[0] for name in names if not name.startswith("encoder.")}
    assert rest == {"proj", "mask_token", "decoder", "norm", "heads", "weighting"}


def test_equal_weights() -> None:
    network = pretext(IMAGE, CLIMATE, weighted=False)
    batch = {"image": images(), "climate": torch.randn(4, 2)}
    step = network(network.hide(batch, random()))
    torch.testing.assert_close(step.total.detach(), step.losses.sum())


def test_a_crop_off_the_grid_is_refused() -> None:
    with pytest.raises(InputError, match=r"36 x 36 pixels cannot be cut into patches of 8"):
        pretext().hide({"image": images(side=36)}, random())


def test_reconstruction_keeps_what_was_visible() -> None:
    network = pretext().eval()
    batch = {"image": images()}
    batch["image"][0, :, :4] = torch.nan
    batch = network.hide(batch, random())
    painted = network.reconstruct(batch)
    shown = enlarge(batch[VISIBLE], 8)[:, None].expand_as(painted)
    torch.testing.assert_close(painted[shown], batch["image"][shown], equal_nan=True)
    assert not torch.allclose(painted[~shown].nan_to_num(), batch["image"][~shown].nan_to_num())
    assert torch.equal(painted.isnan(), batch["image"].isnan())


def test_picture_of_three_rows() -> None:
    network = pretext().eval()
    batch = network.hide({"image": images(COUNT)}, random())
    picture = network.picture(batch, [490.0, 665.0, 842.0])
    side = 32 * SCALE + GAP
    assert picture.shape == (3 * side, COUNT * side, 3) and picture.dtype == np.uint8
    first, shown, painted = (picture[n * side : n * side + 96, :96] for n in range(3))
    kept = (shown != 128).all(axis=2)
    assert 0.2 < kept.mean() < 0.6
    assert (first[kept] == shown[kept]).all() and (first[kept] == painted[kept]).all()
    assert (first[~kept] != painted[~kept]).any()
