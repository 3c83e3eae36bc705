"""What a masked autoencoder makes of images: as they are, what it sees, and what it thinks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mmearth.pretraining.masking import enlarge
from mmearth.training.pictures import FALSE, NATURAL

PICTURE_NAME = "reconstruction.png"
COUNT = 8  # images in a picture
SCALE = 3  # times that pixels are enlarged
PERCENTILES = (1, 99)  # what is darker is black, what is brighter white
GAP = 4
GREY = 128  # what is hidden, or has no data


def three_rows(
    image: torch.Tensor,
    visible: torch.Tensor,
    painted: torch.Tensor,
    wavelengths_nm: Sequence[float | None],
) -> NDArray[np.uint8]:
    """Return a picture of three rows: images, what is shown of them, and what is made of that.

    Args:
        image: (B, C, H, W) float32, standardised, NaN = no data; a few.
        visible: (B, h, w) bool, patches that are shown.
        painted: as ``image``, with hidden patches as they are thought to be.
        wavelengths_nm: of the image's bands.

    Returns:
        (height, width, 3) uint8.
    """
    patch = image.shape[-1] // visible.shape[-1]
    shown = image.masked_fill(~enlarge(visible, patch)[:, None], torch.nan)
    chosen = _colours(wavelengths_nm)
    rows = [part[:, chosen].float().cpu().numpy() for part in (image, shown, painted)]
    low, high = _range(rows[0])
    return np.concatenate([_row(row, low, high) for row in rows])


def save(picture: NDArray[np.uint8], path: Path) -> None:
    """Write a picture as PNG. picture: (height, width, 3) uint8."""
    Image.fromarray(picture).save(path)


def _colours(wavelengths_nm: Sequence[float | None]) -> list[int]:
    for wanted in (NATURAL, FALSE):
        found = [
            next((n for n, nm in enumerate(wavelengths_nm) if nm and low <= nm < high), None)
            for low, high in wanted
        ]
        if None not in found:
            return [number for number in found if number is not None]
    return [min(number, len(wavelengths_nm) - 1) for number in range(3)]


def _range(images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the darkest and brightest value of each image and colour. (B, 3, 1, 1) each."""
    known = np.where(np.isnan(images).all(axis=(2, 3), keepdims=True), 0, images)
    low, high = np.nanpercentile(known, PERCENTILES, axis=(2, 3), keepdims=True)
    return low, np.maximum(high, low + 1e-3)


def _row(
    images: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.uint8]:
    values = (images - low) / (high - low) * 255
    values = np.nan_to_num(values, nan=GREY).clip(0, 255).astype(np.uint8)
    values = values.repeat(SCALE, axis=2).repeat(SCALE, axis=3)
    values = np.pad(values, ((0, 0), (0, 0), (0, GAP), (0, GAP)), constant_values=255)
    return np.concatenate(list(values.transpose(0, 2, 3, 1)), axis=1)
