"""MMEarth's checkpoints: weights of sparse convolutions, made those of dense ones.

After MMEarth-train's helpers.py, ``remap_checkpoint_keys``. Sparse kernels are stored as
(kernel positions, in, out), and depthwise ones as (kernel positions, channels), with positions
counted column by column: without the last transposition every shape fits, but kernels lie mirrored
at their diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

PREFIX = "encoder."
# What pretraining needs besides the encoder, and nothing after it does.
PRETEXT = (
    "mask_token", "proj.", "decoder_dict.", "pred_dict.", "layer_norm_tmp.", "loss_fn.",
)  # fmt: skip


def to_dense(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the encoder's weights by the names of ``ConvNeXtV2Encoder``.

    Args:
        state: the checkpoint's ``model``. Keys that belong to pretraining alone are left out; any
            other key is kept, so that one that does not belong is noticed.
    """
    dense = {}
    for key, value in state.items():
        if key.startswith(PRETEXT):
            continue
        name = key.removeprefix(PREFIX).replace(".ln.", ".").replace(".linear.", ".")
        if name.endswith(".kernel"):
            name, value = name.removesuffix("kernel") + "weight", _dense_kernel(value)
        elif name.endswith(".bias"):
            value = value.reshape(-1)
        elif ".grn." in name:
            value = value.reshape(1, 1, 1, -1)
        dense[name] = value.contiguous()
    return dense


def _dense_kernel(kernel: torch.Tensor) -> torch.Tensor:
    """(k², in, out) to (out, in, k, k), or (k², channels) to (channels, 1, k, k)."""
    if kernel.dim() == 2:
        kernel = kernel[:, None]
    side = math.isqrt(kernel.shape[0])
    return kernel.permute(2, 1, 0).unflatten(2, (side, side)).transpose(3, 2)
