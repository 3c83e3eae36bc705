"""Published checkpoints, recognised by what they hold, made weights of our encoders.

Layouts: MMEarth-train (helpers.py), SSL4EO-S12 (pretrain_ssl, transfer_classification), torchgeo
and torchvision (flat files), spectral_earth (flat files, and the wrapper of mae_module.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mmearth.errors import WeightsError
from mmearth.models.weights import mmearth

State = Mapping[str, torch.Tensor]
SHOWN = 3  # keys named in a message


@dataclass(frozen=True)
class Layout:
    """A kind of checkpoint.

    Attributes:
        title: in words.
        entry: of the checkpoint that holds the weights; empty where the file is flat.
        prefixes: one of them begins the encoder's keys, and is cut off; the first that occurs.
        dropped: beginnings of keys, without the prefix, that belong to pretraining or a head.
        others: beginnings of whole keys that belong to other parts.
    """

    title: str
    entry: str
    prefixes: tuple[str, ...]
    dropped: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


HEADS = ("fc.", "head.")
LAYOUTS = (
    Layout(
        "MoCo-v2", "state_dict", ("module.encoder_q.", "encoder_q."), HEADS,
        ("module.encoder_k.", "encoder_k.", "module.queue", "queue"),
    ),
    Layout(
        "MoCo-v3", "state_dict", ("module.base_encoder.", "base_encoder."), HEADS,
        ("module.momentum_encoder.", "momentum_encoder.", "module.predictor.", "predictor."),
    ),
    Layout(
        "DINO", "teacher", ("module.backbone.", "backbone."), HEADS, ("module.head.", "head.")
    ),
    Layout(
        "DINO, student", "student", ("module.backbone.", "backbone."), HEADS,
        ("module.head.", "head."),
    ),
    Layout("MAE", "model", ("",), (*HEADS, "decoder_", "mask_token")),
    Layout("state dictionary", "", ("",), (*HEADS, "resnet.fc.", "vit_core.head.")),
)  # fmt: skip


def encoder_state(checkpoint: Mapping[str, Any], encoder: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of an encoder out of a published checkpoint.

    Args:
        checkpoint: what the file holds.
        encoder: built for the bands that the file's model reads.

    Returns:
        All weights of the encoder, by its own names.

    Raises:
        WeightsError: if the file is of no known kind, or holds a key too few or too many, or one of
            another shape.
    """
    title, state = _recognise(checkpoint)
    expected = encoder.state_dict()
    if any(key.startswith("vit_core.") for key in expected):
        state = _to_vit(state)
    problems = _problems(state, expected, encoder)
    if problems:
        more = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise WeightsError(
            f"This file ({title}) does not fit the encoder: {'; '.join(problems[:SHOWN])}{more}.",
            "Choose the encoder, patch size, stem and bands that the file was made with.",
        )
    return {key: state.get(key, value) for key, value in expected.items()}


def _recognise(checkpoint: Mapping[str, Any]) -> tuple[str, dict[str, torch.Tensor]]:
    model = checkpoint.get("model")
    if isinstance(model, Mapping) and any(key.endswith(".kernel") for key in model):
        return "MMEarth", mmearth.to_dense(model)
    for layout in LAYOUTS:
        found = checkpoint.get(layout.entry) if layout.entry else checkpoint
        if not isinstance(found, Mapping) or not _all_tensors(found):
            continue
        for prefix in layout.prefixes:
            if any(key.startswith(prefix) for key in found):
                return layout.title, _strip(found, prefix, layout)
    entries = ", ".join(sorted(map(str, checkpoint))[:8]) or "nothing"
    raise WeightsError(
        f"The file holds no weights of a known kind; it holds {entries}.",
        "Use a file published by MMEarth, SSL4EO-S12, torchgeo, SpectralEarth or torchvision.",
    )


def _all_tensors(state: Mapping[str, Any]) -> bool:
    return bool(state) and all(isinstance(value, torch.Tensor) for value in state.values())


def _strip(state: State, prefix: str, layout: Layout) -> dict[str, torch.Tensor]:
    """Cut a prefix off; keys that neither have it nor are known keep their name, to be noticed."""
    stripped = {}
    for key, value in state.items():
        if not key.startswith(prefix):
            if not key.startswith(layout.others):
                stripped[key] = value
            continue
        name = key.removeprefix(prefix)
        if not name.startswith(layout.dropped):
            stripped[name] = value
    return stripped


def _to_vit(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name a transformer's weights as our encoder does, and undo the wrapper of spectral MAE."""
    spectral = any(key.startswith("spectral_adapter.") for key in state)
    if not spectral:
        return {f"vit_core.{key}": value for key, value in state.items()}
    wrapper = "vit_core.patch_embed."
    aliases: dict[str, Callable[[str], str]] = {
        f"{wrapper}spectral_adapter.": lambda rest: f"spectral_adapter.{rest}",
        f"{wrapper}original_patch_embed.": lambda rest: f"{wrapper}{rest}",
    }
    named = dict(state)
    for key, value in state.items():
        for alias, name_of in aliases.items():
            if key.startswith(alias):
                del named[key]
                name = name_of(key.removeprefix(alias))
                if not torch.equal(named.setdefault(name, value), value):
                    raise WeightsError(
                        f"The file holds two different values of {name}.",
                        "It is damaged: obtain it again.",
                    )
    return named


def _problems(state: State, expected: State, encoder: nn.Module) -> list[str]:
    ours: tuple[str, ...] = getattr(encoder, "unpublished", ())
    lacks = [key for key in expected if key not in state and not key.startswith(ours)]
    problems = [f"it lacks {key}" for key in lacks]
    problems += [f"it has {key} too many" for key in state if key not in expected]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    # A number of bands or a patch size that is off shows in a shape, which says more than a name.
    return shapes + problems
