"""Published files become encoders that compute what was published, or are refused in words.

``tests/data/goldens`` holds outputs of the published code, for weights drawn from their own names.
"""

from __future__ import annotations

import argparse
import pathlib

import pytest
import torch
from goldens import Golden, drawn, image, mmearth_file
from safetensors.torch import load_file
from torch.nn.functional import layer_norm

from mmearth.errors import ModelError
from mmearth.models.card import NetworkConfig
from mmearth.models.registry import build_encoder, build_network
from mmearth.models.weights.checkpoint import convert, convert_in_process
from mmearth.models.weights.layouts import encoder_state


@torch.inference_mode()
def test_mmearth_with_the_padding_for_classification() -> None:
    golden = Golden("mmearth_convnextv2_atto_p8_classification")
    encoder = build_encoder("mmearth-atto-p8-scene", in_channels=12).eval()
    checkpoint = {"model": drawn(golden.facts["raw_checkpoint_keys"])}
    encoder.load_state_dict(encoder_state(checkpoint, encoder))
    norm = drawn(golden.facts["drawn_apart"])
    stages = encoder.stage_maps(encoder.stem_maps(image(12, 56))[-1])
    pooled = layer_norm(
        stages[-1].mean(dim=(2, 3)), (320,), norm["norm.weight"], norm["norm.bias"], 1e-6
    )
    intermediate = {f"stage{n}": stage for n, stage in enumerate(stages)}
    golden.check(pooled=pooled, **intermediate)

    config = NetworkConfig(
        decoder="scene", encoder="mmearth-atto-p8-scene", multiply_adds_per_pixel=1
    )
    network = build_network(config, in_channels=12, classes=320).eval()
    network.encoder.load_state_dict(encoder.state_dict())
    _, _, normalise, _, linear, _ = network.head
    normalise.load_state_dict({k.removeprefix("norm."): v for k, v in norm.items() if "norm" in k})
    torch.nn.init.eye_(linear.weight)  # so that what is pooled shows
    torch.nn.init.zeros_(linear.bias)
    golden.check(**intermediate, pooled=network(image(12, 56)))


@torch.inference_mode()
def test_mmearth_with_its_unet() -> None:
    golden = Golden("mmearth_convnextv2_atto_p8_unet")
    config = NetworkConfig(
        decoder="mmearth-unet", encoder="mmearth-atto-p8", multiply_adds_per_pixel=1
    )
    network = build_network(config, in_channels=12, classes=10).eval()
    checkpoint = {"model": drawn(golden.facts["raw_checkpoint_keys"])}
    network.encoder.load_state_dict(encoder_state(checkpoint, network.encoder))
    apart = drawn(golden.facts["drawn_apart"])
    missing, unexpected = network.load_state_dict(apart, strict=False)
    assert all(key.startswith("encoder.") for key in missing)
    assert set(unexpected) == {"norm.weight", "norm.bias"}  # published, but never used
    stem = network.encoder.stem_maps(image(12, 56))
    stages = network.encoder.stage_maps(stem[-1])
    golden.check(
        logits=network(image(12, 56)),
        skip0=stem[0],
        skip1=stem[1],
        skip2=stages[1],
        skip3=stages[2],
        deepest=stages[3],
    )


@torch.inference_mode()
def test_spectral_adapter() -> None:
    golden = Golden("spectral_adapter")
    adapter = build_encoder("specresnet50", in_channels=202).spectral_adapter.eval()
    adapter.load_state_dict(drawn(golden.facts["keys"], golden.facts["draw_prefix"]))
    golden.check(output=adapter(image(202, 32)))


@torch.inference_mode()
def test_spectral_resnet() -> None:
    golden = Golden("spec_resnet50")
    encoder = build_encoder("specresnet50", in_channels=202).eval()
    encoder.load_state_dict(encoder_state(drawn(golden.facts["keys"]), encoder))
    golden.check(output=encoder(image(202, 64)[:1])[-1])


def published(kind, state):
    """Wrap an encoder's weights as a publisher's file holds them."""
    vit = {key.removeprefix("vit_core."): value for key, value in state.items()}
    vit = {key: value for key, value in vit.items() if not key.startswith("neck.")}
    options = argparse.Namespace(output=pathlib.PurePosixPath("/x"), lr=0.1)
    one = torch.ones(1)
    match kind:
        case "moco-v2":
            query = {f"module.encoder_q.{key}": value for key, value in state.items()}
            key = {f"module.encoder_k.{key}": value for key, value in state.items()}
            rest = {"module.encoder_q.fc.0.weight": one, "module.queue": one}
            rest["module.queue_ptr"] = one
            return {"epoch": 99, "arch": "resnet18", "state_dict": query | key | rest}
        case "moco-v3":
            weights = {f"module.base_encoder.{key}": value for key, value in vit.items()}
            rest = {"module.base_encoder.head.0.weight": one, "module.predictor.0.weight": one}
            rest["module.momentum_encoder.cls_token"] = one
            return {"epoch": 99, "state_dict": weights | rest}
        case "dino":
            teacher = {f"backbone.{key}": value for key, value in vit.items()}
            student = {f"module.{key}": value * 2 for key, value in teacher.items()}
            head = {"head.mlp.0.weight": one}
            return {"student": student, "teacher": teacher | head, "args": options}
        case "dino-ddp":
            teacher = {f"module.backbone.{key}": value for key, value in state.items()}
            return {"teacher": teacher | {"module.head.mlp.0.weight": one}, "epoch": 99}
        case "mae":
            rest = {"decoder_embed.weight": one, "mask_token": one}
            return {"model": vit | rest, "args": options, "epoch": 99}
        case "torchgeo":
            return vit


@pytest.mark.parametrize(
    ("kind", "encoder", "bands"),
    [
        ("moco-v2", "resnet18", 13),
        ("moco-v2", "detail-resnet50", 13),
        ("moco-v3", "vit-tiny-p16", 13),
        ("dino", "vit-tiny-p16", 13),
        ("dino-ddp", "resnet18", 13),
        ("mae", "vit-tiny-p16", 13),
        ("torchgeo", "vit-tiny-p16", 13),
        ("torchgeo", "resnet18", 2),
    ],
)
def test_layouts_of_publishers(kind, encoder, bands) -> None:
    torch.manual_seed(1)
    there = build_encoder(encoder, in_channels=bands).eval()
    here = build_encoder(encoder, in_channels=bands).eval()
    here.load_state_dict(encoder_state(published(kind, there.state_dict()), here))
    tile = torch.rand(1, bands, 64, 64)
    with torch.inference_mode():
        if encoder.startswith("vit"):  # the neck is ours, and not in the file
            expected, found = there.token_maps(tile), here.token_maps(tile)
        else:
            expected, found = there(tile), here(tile)
    torch.testing.assert_close(found, expected)


def test_stem_weights_fit_the_stem_that_keeps_detail() -> None:
    """A file of a plain ResNet-18; only the new way around its first block starts anew."""
    plain = build_encoder("resnet18", in_channels=13)
    detailed = build_encoder("detail-resnet18", in_channels=13)
    state = encoder_state(published("moco-v2", plain.state_dict()), detailed)
    torch.testing.assert_close(state["conv1.weight"], plain.conv1.weight)
    fresh = {key for key in state if key not in plain.state_dict()}
    assert all(key.startswith("layer1.0.downsample.") for key in fresh)


def test_weights_of_photographs_are_not_adapted_to_more_bands_in_silence() -> None:
    from torchvision.models import resnet18

    photographs = resnet18().state_dict()
    encoder = build_encoder("resnet18", in_channels=4)
    expected = r"conv1\.weight is \(64, 3, 7, 7\), expected \(64, 4, 7, 7\)"
    with pytest.raises(ModelError, match=expected):
        encoder_state(photographs, encoder)


def test_the_wrapper_of_spectral_pretraining_is_undone() -> None:
    encoder = build_encoder("specvit-tiny", in_channels=202)
    state = {k: v for k, v in encoder.state_dict().items() if not k.startswith("neck.")}
    aliases = {
        f"vit_core.patch_embed.{key}": value
        for key, value in state.items()
        if key.startswith("spectral_adapter.")
    } | {
        key.replace("patch_embed.", "patch_embed.original_patch_embed."): value
        for key, value in state.items()
        if key.startswith("vit_core.patch_embed.proj.")
    }
    rest = {"vit_core.head.weight": torch.ones(1000, 192), "vit_core.head.bias": torch.ones(1000)}
    found = encoder_state(state | aliases | rest, encoder)
    assert set(found) == set(encoder.state_dict())
    damaged = aliases | {"vit_core.patch_embed.original_patch_embed.proj.bias": torch.ones(192)}
    with pytest.raises(ModelError, match=r"two different values of vit_core\.patch_embed\.proj"):
        encoder_state(state | damaged, encoder)


def test_a_file_is_converted_in_another_process(tmp_path) -> None:
    target = tmp_path / "model.safetensors"
    convert(mmearth_file(tmp_path), "mmearth-atto-p8", 12, target)
    encoder = build_encoder("mmearth-atto-p8", in_channels=12)
    encoder.load_state_dict(load_file(target))


@pytest.mark.parametrize(
    ("encoder", "bands", "words"),
    [
        ("mmearth-atto-p16", 12, r"stem\.0\.weight is \(40, 1, 1, 1\), expected \(40, 1, 2, 2\)"),
        ("mmearth-atto-p8", 13, r"initial_conv\.0\.weight is \(40, 12, 3, 3\), expected \(40, 13"),
        ("mmearth-atto-p8-original", 12, r"lacks stem_orig\.0\.weight"),
        ("mmearth-tiny-p8", 12, r"is \(40,.*expected \(96,"),
        ("resnet18", 13, r"lacks conv1\.weight"),
    ],
)
def test_a_wrong_encoder_is_refused(tmp_path, encoder, bands, words) -> None:
    with pytest.raises(ModelError, match=words):
        convert_in_process(mmearth_file(tmp_path), encoder, bands, tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("encoder.stages.2.3.grn.beta"), r"lacks stages\.2\.3\.grn\.beta"),
        (lambda s: s.update({"encoder.extra": torch.ones(1)}), r"has extra too many"),
    ],
)
def test_a_key_too_few_or_too_many_is_named(tmp_path, change, words) -> None:
    with pytest.raises(ModelError, match=words):
        convert_in_process(
            mmearth_file(tmp_path, change), "mmearth-atto-p8", 12, tmp_path / "m.safetensors"
        )


class Trap:
    """A pickle that runs a command when it is read."""

    def __init__(self, victim) -> None:
        self.victim = victim

    def __reduce__(self):
        return pathlib.Path.touch, (self.victim,)


def test_a_file_that_runs_code_is_refused_and_harmless(tmp_path) -> None:
    victim, path = tmp_path / "harm", tmp_path / "evil.pth"
    torch.save({"model": {"x": torch.ones(1)}, "args": Trap(victim)}, path)
    torch.load(path, weights_only=False)  # the trap works …
    assert victim.exists()
    victim.unlink()
    with pytest.raises(ModelError, match=r"refused.*more than weights"):
        convert(path, "resnet18", 13, tmp_path / "model.safetensors")
    assert not victim.exists()  # … and was not sprung


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_a_damaged_file_is_refused(tmp_path, name, content) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} (cannot be read|was refused)"):
        convert_in_process(tmp_path / name, "resnet18", 13, tmp_path / "out.safetensors")


def test_a_file_without_weights_is_refused() -> None:
    encoder = build_encoder("resnet18", in_channels=13)
    with pytest.raises(ModelError, match="it holds epoch, losses"):
        encoder_state({"epoch": 3, "losses": [1.0]}, encoder)
