"""SpectralEarth's spectral adapter, and ResNet-50 on it.

Braham et al. 2025, doi:10.1109/JSTARS.2025.3581451. After spectral_earth's
src/backbones/spectral_adapter.py and spec_resnet.py, in whose names the parameters are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmearth.models.encoders.pyramid import PyramidEncoder, register

from torchvision.models.resnet import Bottleneck, resnet50  # isort: skip  after mmearth.models.smp

ADAPTED = 128  # channels that the adapter makes of a spectrum
FIRST = {"kernel": 7, "stride": 5}  # along the spectrum, of the first convolution
FIRST_CHANNELS = 32
LEAST_BANDS = 75  # of fewer the third convolution would see nothing
STRIP_BYTES = 256 * 2**20  # of the adapter's largest feature map, when computed in strips


class SpectralAdapter(nn.Sequential):
    """From the spectrum of each pixel to 128 channels; what surrounds a pixel plays no part.

    Shape:
        (B, C, H, W) float32 with C >= 75, bands by wavelength, to (B, 128, H, W). Published weights
        expect SpectralEarth's 202 bands of EnMAP.
    """

    def __init__(self) -> None:
        super().__init__(
            *_along_spectrum(1, FIRST_CHANNELS, **FIRST),
            *_along_spectrum(FIRST_CHANNELS, 64, kernel=7, stride=5),
            *_along_spectrum(64, ADAPTED, kernel=5, stride=3),
            nn.AdaptiveAvgPool3d((1, None, None)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adapt; without gradients strip by strip, because the first map is huge.

        Raises:
            ValueError: if there are too few bands.
        """
        bands = x.shape[1]
        if bands < LEAST_BANDS:
            raise ValueError(f"Expected at least {LEAST_BANDS} bands, found {bands}.")
        length = (bands + 2 - FIRST["kernel"]) // FIRST["stride"] + 1
        row_bytes = 4 * x.shape[0] * FIRST_CHANNELS * length * x.shape[3]
        rows = max(1, STRIP_BYTES // row_bytes)
        if self.training or torch.is_grad_enabled() or rows >= x.shape[2]:
            return self._adapt(x)
        adapted = x.new_empty(x.shape[0], ADAPTED, *x.shape[2:])
        for top in range(0, x.shape[2], rows):
            adapted[:, :, top : top + rows] = self._adapt(x[:, :, top : top + rows])
        return adapted

    def _adapt(self, x: torch.Tensor) -> torch.Tensor:
        adapted: torch.Tensor = super().forward(x.unsqueeze(1))
        return adapted.squeeze(2)


def _along_spectrum(before: int, after: int, *, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv3d(before, after, (kernel, 1, 1), (stride, 1, 1), (1, 0, 0)),
        nn.BatchNorm3d(after),
        nn.ReLU(inplace=True),
    ]


class SpectralResNetEncoder(PyramidEncoder):
    """Spectral adapter and ResNet-50 without its stem: maps at strides 1, 2, 4, 8, 16.

    Args:
        dilated: for each of the four stages, whether dilation takes the place of its stride; only
            all or none give maps that other decoders than the published one can use.
        full, depth, output_stride: see ``PyramidEncoder``.
    """

    def __init__(
        self,
        *,
        dilated: tuple[bool, bool, bool, bool] = (False, False, False, False),
        full: bool = False,
        depth: int = 4,
        output_stride: int = 16,
    ) -> None:
        channels = [ADAPTED, 256, 512, 1024, 2048]
        super().__init__(channels, full=full, depth=depth, output_stride=output_stride)
        self.spectral_adapter = SpectralAdapter()
        base = resnet50(weights=None)
        downsample = nn.Sequential(
            nn.Conv2d(ADAPTED, 256, 1, stride=2, bias=False), nn.BatchNorm2d(256)
        )
        # 256 channels throughout, where ResNet's own first block is narrower inside.
        base.layer1[0] = Bottleneck(ADAPTED, 64, 2, downsample, base_width=256)
        self.resnet = nn.ModuleDict({name: getattr(base, name) for name in STAGES})
        _dilate([self.resnet[name] for name in STAGES], dilated)

    def read_bands(self, count: int) -> None:
        """Check the number of bands; the adapter takes any from 75."""
        if count < LEAST_BANDS:
            raise ValueError(f"Expected at least {LEAST_BANDS} bands, found {count}.")

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the adapted spectra and the output of each stage."""
        maps = [self.spectral_adapter(x)]
        for name in STAGES:
            maps.append(self.resnet[name](maps[-1]))
        return maps


STAGES = ("layer1", "layer2", "layer3", "layer4")


def _dilate(stages: list[Any], dilated: tuple[bool, ...]) -> None:
    """Exchange strides for dilation: 1 in the first stage so treated, then twice as much each."""
    dilation = 1
    for stage, wanted in zip(stages, dilated, strict=True):
        if not wanted:
            continue
        for block in stage.children():
            if block.downsample is not None:
                block.downsample[0].stride = (1, 1)
            block.conv2.stride = (1, 1)
            block.conv2.dilation = block.conv2.padding = (dilation, dilation)
        dilation *= 2


register("specresnet50", SpectralResNetEncoder, depth=4)
register("specresnet50-dilated", SpectralResNetEncoder, depth=4, dilated=(True,) * 4)
