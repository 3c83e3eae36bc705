"""The cosine classifier, where features have no direction."""

from __future__ import annotations

import torch
from torch import nn

from mmearth.models.decoders.cosine import CosineClassifier


class Dark(nn.Module):
    """Gives features of length 0."""

    out_channels = (8,)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x.new_zeros(len(x), 8, x.shape[2] // 2, x.shape[3] // 2)]


def test_features_of_no_length_leave_classes_to_the_bias_in_low_precision_too() -> None:
    torch.manual_seed(0)
    network = CosineClassifier(Dark(), classes=3).eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        scores = network(torch.ones(1, 2, 4, 4))
    bias = network.head.bias[None, :, None, None]
    assert scores.shape == (1, 3, 4, 4) and (scores - bias).abs().max() < 1
