"""Changes to reflectance that a sensor, an atmosphere or a processor could have made.

A model that has seen them reads Level-1C and Level-2A alike, and products of processors it has
never met. Signs, orders and shapes of spectra stay physical: nothing is drawn per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RadiometricJitter:
    """Random gain, haze and offset of whole crops.

    reflectance' = reflectance x gain x band_gain + haze x (wavelength / 0.49 um)^-e + offset

    Attributes:
        gain: standard deviation of the logarithm of a gain common to all bands: sun and terrain.
        band_gain: the same for each band alone: calibration, atmospheric correction.
        haze: standard deviation of path reflectance at 0.49 um; negative where a correction took
            too much away.
        offset: standard deviation of an offset of each band alone.
        chance: share of crops that are changed.
    """

    gain: float = 0.03
    band_gain: float = 0.02
    haze: float = 0.006
    offset: float = 0.0015
    chance: float = 0.8

    def __call__(
        self, images: torch.Tensor, wavelengths_um: torch.Tensor, random: torch.Generator
    ) -> torch.Tensor:
        """Change a batch.

        Args:
            images: (B, C, H, W) float32, reflectance.
            wavelengths_um: (C,) central wavelengths.
            random: source of chance.

        Returns:
            (B, C, H, W) float32, not below 0.
        """
        count, bands = images.shape[:2]

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, 1, 1, generator=random)

        gain = torch.exp(normal(count, 1) * self.gain + normal(count, bands) * self.band_gain)
        # Between molecules (exponent 4) and large particles (0); mostly aerosol, about 1.3.
        exponent = 0.5 + 2.5 * torch.rand(count, 1, 1, 1, generator=random)
        spectrum = (wavelengths_um[None, :, None, None] / 0.49) ** -exponent
        added = normal(count, 1) * self.haze * spectrum + normal(count, bands) * self.offset
        changed = (images * gain + added).clamp_min(0)
        keep = torch.rand(count, 1, 1, 1, generator=random) >= self.chance
        return torch.where(keep, images, changed)
