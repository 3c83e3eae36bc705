"""Outputs of published encoders, for weights drawn from their own names (tests/data/README.md)."""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import zlib
from pathlib import Path

import numpy as np
import torch

GOLDENS = Path(__file__).resolve().parents[1] / "data" / "goldens"
TOLERANCE = 1e-4  # relative


def draw(key, shape):
    random = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    values = 0.05 * random.standard_normal(tuple(shape))
    if key.endswith("running_var"):
        values = 1 + np.abs(values)
    elif key.endswith("weight") and len(shape) == 1:
        values = 1 + values
    elif key.endswith("num_batches_tracked"):
        values = np.zeros(shape)
    return torch.from_numpy(values.astype(np.float32))


def drawn(shapes, prefix=""):
    return {key: draw(prefix + key, shape) for key, shape in shapes.items()}


def image(bands, side):
    values = np.random.RandomState(7).standard_normal((2, bands, side, side))
    return torch.from_numpy(values.astype(np.float32))


class Golden:
    def __init__(self, name):
        self.facts = json.loads((GOLDENS / f"{name}.json").read_text())
        self.outputs = np.load(GOLDENS / f"{name}.npz")

    def check(self, **found):
        assert set(found) == set(self.facts["stored"])
        for name, values in found.items():
            stored, expected = self.facts["stored"][name], self.outputs[name]
            values = values.detach().numpy()[: stored["full_shape"][0]]
            assert list(values.shape) == stored["full_shape"]
            if "first sample" in stored["slice"]:
                values = values[:1]
            if every := re.search(r"every (\d+)-th channel", stored["slice"]):
                values = values[:, :: int(every[1])]
            if "2nd row" in stored["slice"]:
                values = values[:, :, ::2, ::2]
            error = np.linalg.norm(values - expected) / np.linalg.norm(expected)
            assert error <= TOLERANCE, name


def mmearth_file(folder, change=lambda state: None):
    golden = Golden("mmearth_convnextv2_atto_p8_unet")
    state = drawn(golden.facts["raw_checkpoint_keys"])
    state["mask_token"] = torch.zeros(1, 512, 1, 1)
    state["loss_fn.log_vars"] = torch.zeros(12)
    change(state)
    options = argparse.Namespace(data_dir=pathlib.PosixPath("/data"), patch_size=8)
    path = folder / "checkpoint-199.pth"
    torch.save({"model": state, "args": options, "epoch": 199}, path)
    return path
