"""Changed looks at the same places, for methods that learn what they have in common.

Crops, turns and brightness as in SSL4EO-S12's pretrain_moco_v2_s2c.py (Wang et al. 2023). What it
does beyond that is left out, because the spectrum is what much of the land is told apart by: grey
instead of colour, dropped bands, and contrast, which mixes bands; and blur.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

from mmearth.models.network import Normaliser
from mmearth.pretraining.dataset import Dataset
from mmearth.sensors import load_sensor

BRIGHTENED = 0.8  # share of the looks
ASPECT = 4 / 3  # of a crop, at most
MEASURED_BY_LIGHT = ("reflectance", "radiance", "brightness")  # what a factor means something of


@dataclass(frozen=True)
class Look:
    """How an image is changed at random.

    Attributes:
        size: side of the result in pixels.
        scale: least and largest share of the image's area that is cut out.
        brightness: the image is multiplied by 1 - this to 1 + this, all bands alike, so that their
            ratios stay; what is not measured by light is left as it is.
    """

    size: int
    scale: tuple[float, float]
    brightness: float

    def __call__(self, image: torch.Tensor, data: Dataset, random: torch.Generator) -> torch.Tensor:
        """Change an image.

        Args:
            image: (1, C, H, W) float32, standardised, NaN = no data.
            data: that it is of.
            random: source of chance.

        Returns:
            (1, C, size, size) float32, standardised, 0 where there are no data.
        """
        chance = torch.rand(8, generator=random).tolist()
        if chance[0] < BRIGHTENED:
            image = _brightened(image, 1 + self.brightness * (2 * chance[1] - 1), data)
        image = torch.nan_to_num(image, nan=0.0)
        height, width = image.shape[-2:]
        area = self.scale[0] + (self.scale[1] - self.scale[0]) * chance[2]
        aspect = ASPECT ** (2 * chance[3] - 1)
        rows = max(1, min(height, round(height * (area * aspect) ** 0.5)))
        cols = max(1, min(width, round(width * (area / aspect) ** 0.5)))
        top, left = int(chance[4] * (height - rows + 1)), int(chance[5] * (width - cols + 1))
        crop = image[..., top : top + rows, left : left + cols]
        crop = interpolate(crop, size=(self.size,) * 2, mode="bilinear", antialias=True)
        turned = torch.rot90(crop, int(chance[6] * 4), (-2, -1))
        return turned.flip(-1) if chance[7] < 0.5 else turned

    def each(self, images: torch.Tensor, data: Dataset, random: torch.Generator) -> torch.Tensor:
        """Change each of several images by itself. (B, C, H, W) to (B, C, size, size) float32."""
        return torch.cat([self(image, data, random) for image in images.split(1)])


def _brightened(image: torch.Tensor, factor: float, data: Dataset) -> torch.Tensor:
    """Multiply what a sensor measures, of an image that is standardised already."""
    config = data.normalisation
    if load_sensor(data.sensor).quantity not in MEASURED_BY_LIGHT:
        return image
    normaliser = Normaliser(config)
    values = image * normaliser.std + normaliser.mean
    if config.function == "log1p":
        changed = torch.log1p(torch.expm1(values) * factor)
    else:
        changed = values * factor
    changed = (changed - normaliser.mean) / normaliser.std
    return changed.clamp(*config.bounds) if config.bounds else changed
