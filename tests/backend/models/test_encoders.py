"""Every encoder keeps the contract that decoders rest on, and computes what was published."""

from __future__ import annotations

import pytest
import torch

from mmearth.errors import ModelError
from mmearth.models.card import NetworkConfig
from mmearth.models.registry import build_encoder, build_network

# One of each family and shape: sizes differ in numbers only.
ENCODERS = {
    "detail-resnet18": 4,
    "detail-resnet50": 4,
    "mmearth-atto-p8": 12,
    "mmearth-atto-p16": 12,
    "mmearth-atto-p32": 12,
    "mmearth-atto-p16-original": 3,
    "mmearth-atto-p32-original": 3,
    "separable-48": 10,
    "specresnet50": 202,
    "specvit-tiny": 202,
    "vit-tiny-p16": 13,
    "resnet18": 13,
}
IMAGE_FIRST = {"mmearth-atto-p16-original", "mmearth-atto-p32-original", "vit-tiny-p16", "resnet18"}
SIDE = 64


FORMS = [(name, "") for name in ENCODERS]
FORMS += [(name, "-full") for name in ENCODERS if name not in IMAGE_FIRST]


@pytest.mark.parametrize(("name", "ending"), FORMS)
def test_feature_maps_are_at_strides_that_double(name, ending) -> None:
    bands = ENCODERS[name]
    encoder = build_encoder(name + ending, in_channels=bands).eval()
    image = torch.rand(1, bands, SIDE, SIDE)
    with torch.inference_mode():
        maps = encoder(image)
    assert [m.shape[1] for m in maps] == list(encoder.out_channels)
    assert SIDE // maps[-1].shape[-1] == encoder.output_stride
    if ending:
        assert maps[0] is image
        maps = maps[1:]
        assert len(maps) > 1
    if name != "resnet18":
        assert [m.shape[-1] for m in maps] == [SIDE >> n for n in range(len(maps))]


@pytest.mark.parametrize("name", sorted(IMAGE_FIRST))
def test_encoders_that_begin_with_the_image_have_one_form_only(name) -> None:
    with pytest.raises(ModelError, match=f"'{name}-full' cannot be built.*Choose '{name}'"):
        build_encoder(f"{name}-full", in_channels=ENCODERS[name])


# Shapes that the contract of tests/backend/models/test_registry.py does not try.
DECODED = [
    ("unet", "mmearth-atto-p8-full", 12),
    ("unet", "mmearth-atto-p32", 12),
    ("unet", "detail-resnet18-full", 4),
    ("unet", "specresnet50", 202),
    ("unet", "vit-tiny-p16", 13),
    ("unet", "specvit-tiny", 202),
    ("deeplabv3plus", "mmearth-atto-p8", 12),
    ("deeplabv3plus", "mmearth-atto-p16", 12),
    ("deeplabv3plus", "specresnet50", 202),
    ("deeplabv3plus", "vit-tiny-p16", 13),
    ("deeplabv3plus", "resnet18", 13),
    ("mmearth-unet", "mmearth-atto-p16", 12),
    ("mmearth-unet", "mmearth-atto-p16-original", 3),
    ("upconv", "specvit-tiny", 202),
    ("conv", "specvit-tiny", 202),
    ("fcn", "specresnet50-dilated", 202),
    ("linear", "vit-tiny-p16", 13),
    ("unet", "separable-48-full", 10),
]


def network(decoder, encoder, bands, classes=5):
    config = NetworkConfig(decoder=decoder, encoder=encoder, multiply_adds_per_pixel=1)
    return build_network(config, in_channels=bands, classes=classes)


@pytest.mark.parametrize(("decoder", "encoder", "bands"), DECODED)
def test_decoders_score_each_pixel_and_every_weight_learns(decoder, encoder, bands) -> None:
    side = 32 if "dilated" in encoder else SIDE
    module = network(decoder, encoder, bands).train()
    scores = module(torch.rand(2, bands, side, side))
    assert scores.shape == (2, 5, side, side)
    scores.square().mean().backward()
    idle = [name for name, weight in module.named_parameters() if weight.grad is None]
    if decoder in ("deeplabv3plus", "fcn", "linear", "unet"):
        # What lies behind the maps that a decoder looks at, or makes those that it leaves out.
        idle = [name for name in idle if not name.startswith(("encoder.neck", "encoder.vit_core"))]
    assert idle == []


@pytest.mark.parametrize(("encoder", "bands"), ENCODERS.items())
def test_scenes_are_labelled_and_every_weight_learns(encoder, bands) -> None:
    module = network("scene", encoder, bands).train()
    scores = module(torch.rand(2, bands, SIDE, SIDE))
    assert scores.shape == (2, 5)
    scores.square().mean().backward()
    assert [name for name, weight in module.named_parameters() if weight.grad is None] == []


@torch.inference_mode()
def test_a_transformer_is_pooled_as_published() -> None:
    """SpectralEarth: timm's transformer, with its own head, behind the adapter."""
    from timm.models.vision_transformer import VisionTransformer

    ours = network("scene", "specvit-tiny", 202).eval()
    adapter, core = ours.encoder.spectral_adapter, ours.encoder.vit_core
    theirs = VisionTransformer(
        img_size=128, patch_size=4, in_chans=128, embed_dim=192, num_heads=3, num_classes=5
    ).eval()
    head = {f"head.{name}": value for name, value in ours.head.state_dict().items()}
    theirs.load_state_dict(core.state_dict() | head)
    cube = torch.rand(1, 202, 128, 128)
    torch.testing.assert_close(ours(cube), theirs(adapter(cube)))


@torch.inference_mode()
def test_a_resnet_is_pooled_as_published() -> None:
    from torchvision.models import resnet18

    ours = network("scene", "resnet18", 3).eval()
    theirs = resnet18(num_classes=5).eval()
    head = {"fc.weight": ours.head[3].weight, "fc.bias": ours.head[3].bias}
    theirs.load_state_dict(ours.encoder.state_dict() | head)
    tile = torch.rand(2, 3, 96, SIDE)
    torch.testing.assert_close(ours(tile), theirs(tile))


# Families of the libraries: usual ones, and some that lack a map at stride 2.
LIBRARY_ENCODERS = (
    "resnet18",
    "mobilenet_v2",
    "mit_b0",
    "tu-convnextv2_atto",
    "tu-efficientnet_lite0",
)


@pytest.mark.parametrize("encoder", LIBRARY_ENCODERS)
@pytest.mark.parametrize(
    ("decoder", "bands"),
    [("unet", 3), ("unet", 4), ("deeplabv3plus", 4), ("fcn", 4), ("linear", 3), ("scene", 4)],
)
def test_encoders_of_the_libraries_read_every_band(decoder, encoder, bands) -> None:
    module = network(decoder, encoder, bands).eval()
    image = torch.rand(1, bands, SIDE, SIDE, requires_grad=True)
    scores = module(image)
    assert scores.shape == ((1, 5) if decoder == "scene" else (1, 5, SIDE, SIDE))
    scores.square().mean().backward()
    assert (image.grad.abs().sum(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize(
    ("decoder", "encoder", "words"),
    [
        ("deeplabv3plus", "densenet121", "do not support dilated mode.*Choose another encoder"),
        ("deeplabv3plus", "tu-vgg11", "cannot be built: the two do not go together"),
        ("unet", "tu-swin_tiny_patch4_window7_224", "images of 224 pixels a side only"),
        ("fcn", "tu-mixer_s32_224", "images of 224 pixels a side only"),
        ("linear", "tu-nonsense", "timm has none of that name"),
        ("unet", "nonsense", "there is none of that name"),
    ],
)
def test_what_the_libraries_cannot_do_is_refused_in_words(decoder, encoder, words) -> None:
    with pytest.raises(ModelError, match=words):
        network(decoder, encoder, 4)


LIBRARY = {
    "Unet": {"decoder_channels": (64, 32, 16, 16)},
    "UnetPlusPlus": {"decoder_channels": (64, 32, 16, 16)},
    "Linknet": {},
    "FPN": {"upsampling": 2},  # its finest map is at stride 2 here
}


@pytest.mark.parametrize("decoder", LIBRARY)
@pytest.mark.parametrize("encoder", ["mmearth-atto-p16", "detail-resnet18", "vit-tiny-p16"])
def test_decoders_of_the_library_take_our_encoders(decoder, encoder) -> None:
    from mmearth.models.smp import smp

    build_encoder(encoder, in_channels=3)  # registers it
    options = {"encoder_weights": None, "encoder_depth": 4, **LIBRARY[decoder]}
    module = getattr(smp, decoder)(encoder, in_channels=4, classes=3, **options).eval()
    with torch.inference_mode():
        assert module(torch.rand(1, 4, SIDE, SIDE)).shape == (1, 3, SIDE, SIDE)


def test_misfits_are_refused_in_words() -> None:
    with pytest.raises(ModelError, match="vision transformer"):
        network("upconv", "resnet18", 13)
    with pytest.raises(ModelError, match="mmearth"):
        network("mmearth-unet", "resnet18", 12)
    for encoder in ("detail-resnet18-full", "doubleconv-16"):
        with pytest.raises(ModelError, match="expects its maps at strides 1, 2, 4"):
            network("deeplabv3plus", encoder, 4)
    with pytest.raises(ModelError, match="at least 75 bands, found 10"):
        build_encoder("specresnet50", in_channels=10)


def test_a_transformer_reads_any_multiple_of_its_patch() -> None:
    encoder = build_encoder("vit-tiny-p16", in_channels=13).eval()
    with torch.inference_mode():
        maps = encoder(torch.rand(1, 13, 48, 80))
    assert maps[-1].shape[-2:] == (3, 5)


def test_the_adapter_sees_each_pixel_by_itself() -> None:
    """So strips, which save memory, change nothing."""
    from mmearth.models.encoders import spectral

    adapter = spectral.SpectralAdapter().eval()
    cube = torch.rand(1, 202, 37, 20)
    whole = adapter._adapt(cube)
    heights = []
    adapter[0].register_forward_hook(lambda _layer, _inputs, out: heights.append(out.shape[3]))
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectral, "STRIP_BYTES", 5 * 4 * 32 * 40 * 20)  # five rows
        strips = adapter(cube)
    assert heights == [5] * 7 + [2]
    torch.testing.assert_close(strips, whole, rtol=1e-5, atol=1e-6)
