"""Pictures for reports: a scene in three colours, what was drawn on it, and the map of it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mmearth.raster.stack import RasterStack
from mmearth.training.labels import Labels

SIDE = 800  # pixels of the longer side, at most
SMALLEST = 400  # smaller scenes are enlarged, so that outlines are finer than their pixels
ROWS = 256  # read at once
PERCENTILES = (2, 98)  # what is darker is black, what is brighter white

BLUE, GREEN, RED, NEAR_INFRARED = (440, 520), (520, 600), (600, 700), (740, 900)  # nanometres
NATURAL = (RED, GREEN, BLUE)
FALSE = (NEAR_INFRARED, RED, GREEN)


@dataclass(frozen=True)
class View:
    """A scene in three colours, reduced to the size of a picture.

    Attributes:
        image: (h, w, 3) uint8, red, green and blue.
        valid: (h, w) bool, False where the scene has no data.
        step: side of its pixels in pixels of the scene's grid.
        colours: what they are, in words.
    """

    image: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    step: float
    colours: str


def view(stack: RasterStack, wavelengths_nm: Sequence[float | None], side: int = SIDE) -> View:
    """Read a scene at the size of a picture, each colour stretched over its own range.

    Natural colours if there are bands for them, else infrared as red, as vegetation is often shown,
    else the first bands.

    Args:
        stack: the scene; opened and closed here.
        wavelengths_nm: of each band of the stack, in its order; None of radar.
        side: pixels of the longer side, at most.

    Raises:
        RasterReadError: if a file is damaged.
    """
    chosen, colours = _choose(wavelengths_nm)
    step = max(1.0, max(stack.grid.height, stack.grid.width) / side)
    grid = stack.grid if step == 1 else stack.grid.at_resolution(step)
    values = np.zeros((len(chosen), grid.height, grid.width), np.float32)
    valid = np.zeros((grid.height, grid.width), bool)
    # Of hundreds of bands only these are read.
    with RasterStack([stack.bands[band] for band in chosen], grid, stack.masks) as reduced:
        for start in range(0, grid.height, ROWS):
            part = slice(start, min(start + ROWS, grid.height))
            values[:, part], valid[part] = reduced.read_rows(part.start, part.stop)
    image = np.stack([_stretched(band, valid) for band in values], axis=2)
    return View(np.repeat(image, 3 // len(chosen), axis=2), valid, step, colours)


def draw_labels(seen: View, labels: Labels, colours: Sequence[str]) -> NDArray[np.uint8]:
    """Return a view with labels on it, in their classes' colours and with a white rim.

    Where the view is reduced, labels are drawn a pixel wider, so that the smallest can be seen.

    Args:
        seen: of the grid that the labels lie on.
        labels: drawn labels.
        colours: #rrggbb of each class.

    Returns:
        (H, W, 4) uint8, transparent where there is no data.
    """
    factor = _factor(seen)
    opaque = seen.valid[:, :, None] * np.uint8(255)
    picture = _enlarged(np.concatenate([seen.image, opaque], axis=2), factor)
    height, width = seen.valid.shape
    drawn = np.zeros((height, width), np.uint8)  # class numbers from 1
    rows = np.minimum((labels.rows / seen.step).astype(np.int64), height - 1)
    cols = np.minimum((labels.cols / seen.step).astype(np.int64), width - 1)
    drawn[rows, cols] = labels.classes + 1
    if seen.step > 1:
        drawn = ndimage.maximum_filter(drawn, size=3)
    drawn = _enlarged(drawn, factor)
    around = ndimage.maximum_filter(drawn, size=3)
    picture[(around > 0) & (drawn == 0)] = 255
    colour = _palette(colours)[drawn]
    inside = (drawn > 0) & (ndimage.minimum_filter(drawn, size=5) == drawn)
    colour[inside] = (colour[inside].astype(int) + picture[inside]) // 2  # the scene shows through
    return np.where(drawn[:, :, None] > 0, colour, picture)


def draw_map(seen: View, classes: NDArray[np.uint8], colours: Sequence[str]) -> NDArray[np.uint8]:
    """Return a class map in the size of a view.

    Args:
        seen: of the same extent.
        classes: (H, W) class numbers from 1, 0 = no data, of any pixel size.
        colours: #rrggbb of each class.

    Returns:
        (H, W, 4) uint8, transparent where there is no data.
    """
    places = [
        ((np.arange(size) + 0.5) * full / size).astype(np.int64)
        for size, full in zip(seen.valid.shape, classes.shape, strict=True)
    ]
    picture = _palette(colours)[classes[np.ix_(*places)]]
    return _enlarged(picture, _factor(seen))


def data_uri(picture: NDArray[np.uint8]) -> str:
    """Return a picture as a PNG within an address. picture: (H, W, 4) uint8."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png", compress_level=3)  # half the time, 7 % more bytes
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _choose(wavelengths_nm: Sequence[float | None]) -> tuple[list[int], str]:
    """Return the bands to show as red, green and blue, and what they are; one band is grey."""
    for ranges, words in (
        (NATURAL, "natural colours"),
        (FALSE, "false colours: near infrared as red, red as green, green as blue"),
    ):
        found = [_nearest(wavelengths_nm, *limits) for limits in ranges]
        if None not in found:
            return [band for band in found if band is not None], words
    if len(wavelengths_nm) >= 3:
        return [0, 1, 2], "false colours: the first three bands as red, green and blue"
    return [0], "the first band in grey"


def _nearest(wavelengths_nm: Sequence[float | None], low: float, high: float) -> int | None:
    """Return the band nearest to the middle of a range; None if none lies in it."""
    middle = (low + high) / 2
    distances = [
        math.inf if wavelength is None else abs(wavelength - middle)
        for wavelength in wavelengths_nm
    ]
    band = int(np.argmin(distances))
    return band if distances[band] <= (high - low) / 2 else None


def _stretched(band: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a band as brightness. band, valid: (h, w)."""
    if not valid.any():
        return np.zeros(band.shape, np.uint8)
    low, high = np.percentile(band[valid], PERCENTILES)
    shares = ((band - low) / max(high - low, 1e-6)).clip(0, 1)
    return np.where(valid, np.rint(255 * shares), 0).astype(np.uint8)


def _factor(seen: View) -> int:
    return max(1, math.ceil(SMALLEST / max(seen.valid.shape)))


def _enlarged(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _palette(colours: Sequence[str]) -> NDArray[np.uint8]:
    """Return (K + 1, 4) uint8 by class number; 0 is transparent."""
    rows = [(*bytes.fromhex(colour.removeprefix("#")), 255) for colour in colours]
    return np.array([(0, 0, 0, 0), *rows], np.uint8)
