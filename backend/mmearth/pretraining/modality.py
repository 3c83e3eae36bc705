"""Modalities: what an encoder is shown or has to predict, and what stands for no data in each.

A batch is a dictionary from the name of a modality to a tensor:

    level   kind          tensor                                      no data
    pixel   continuous    (B, channels, H, W) float32, standardised   NaN
    pixel   categorical   (B, H, W) int64, class numbers from 0       UNKNOWN
    image   continuous    (B, channels) float32, standardised         NaN
    image   categorical   (B,) int64, class numbers from 0            UNKNOWN

No data keeps its mark until the loss is computed. Replaced by 0 on the way, as in MMEarth-train, it
would be learned as the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.errors import InputError, listed

UNKNOWN = -1  # among class numbers

Batch = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Modality:
    """A quantity that is known of every tile, or of some.

    Attributes:
        name: key in a batch.
        kind: whether it is measured, or tells classes.
        level: whether every pixel has one, or the image as a whole.
        channels: of what is measured; number of classes of a categorical one.
        patch_norm: whether the target is standardised within each patch (norm-pix of He et al.
            2022, "Masked autoencoders are scalable vision learners"), as suits optical images.
    """

    name: str
    kind: Literal["continuous", "categorical"]
    level: Literal["pixel", "image"]
    channels: int
    patch_norm: bool = False


def continuous(
    stored: NDArray[Any],
    nodata: float | None,
    *,
    scale: float | NDArray[np.float64] = 1.0,
    offset: float | NDArray[np.float64] = 0.0,
) -> NDArray[np.float32]:
    """Turn stored numbers into measured ones. Any shape to the same, NaN = no data.

    A number that is not finite is no data either: -inf stands for it in MMEarth's Sentinel-1.

    Args:
        stored: numbers of any type.
        nodata: the one without data.
        scale: measured = stored x scale + offset.
        offset: see ``scale``.

    Raises:
        InputError: if the numbers cannot hold the value that is to stand for no data.
    """
    missing = _missing(stored, nodata)
    values = (stored.astype(np.float64) * scale + offset).astype(np.float32)
    values[missing | ~np.isfinite(values)] = np.nan
    return values


def categorical(
    stored: NDArray[Any],
    codes: Sequence[int],
    nodata: float | None,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Turn stored codes into class numbers from 0, in one step.

    What stands for no data is looked for among the stored codes only. MMEarth-train looks again
    among the class numbers, where 0 is the first class and not no data: tree cover is lost so.

    Args:
        stored: codes, of any shape.
        codes: of the classes, in order.
        nodata: code without data.
        valid: bool, of the same shape; where the file itself says that there are data.

    Raises:
        InputError: if a code is none of these, or the codes cannot hold the one without data.
    """
    missing = _missing(stored, nodata)
    if valid is not None:
        missing |= ~valid
    classes = np.full(stored.shape, UNKNOWN, np.int64)
    for number, code in enumerate(codes):
        classes[stored == code] = number
    strange = np.unique(stored[(classes == UNKNOWN) & ~missing])
    if strange.size:
        raise InputError(
            f"Expected the codes {listed(map(str, codes))}, found {listed(map(str, strange))}.",
            "List every code of the raster, and the one that stands for no data.",
        )
    classes[missing] = UNKNOWN
    return classes


def _missing(stored: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    missing = np.isnan(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
    if nodata is None or np.isnan(nodata):
        return missing
    # An 8-bit canopy height of MMEarth cannot be 255: nothing would ever be missing.
    if stored.dtype.kind != "f" and not _holds(stored.dtype, nodata):
        raise InputError(
            f"{nodata:g} is to stand for no data, but numbers of the type {stored.dtype} "
            "cannot be that.",
            "Look at the raster for the value that it holds instead, and state that one.",
        )
    return missing | (stored == nodata)


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    if value != int(value):
        return False
    limits = np.iinfo(dtype)
    return bool(limits.min <= value <= limits.max)
