"""Labels as a request names them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
from pyogrio.errors import DataSourceError

from mmearth.api import LabelSource
from mmearth.errors import InputError, RasterReadError, listed
from mmearth.raster.grid import Grid
from mmearth.training.labels.base import CHOOSE_FIELD, Labels, warning
from mmearth.training.labels.raster import read_raster_labels
from mmearth.training.labels.vector import read_vector_labels


def read_labels(source: LabelSource, grid: Grid) -> Labels:
    """Read labels and put them on a grid; classes without a label there are left out, and told.

    Raises:
        InputError: if they cannot be read, or label nothing on the grid.
        MissingCrsError: if they do not say where they are.
    """
    wanted = [row.value for row in source.classes]
    if source.field:
        labels = read_vector_labels(
            source.path, source.field, grid, layer=source.layer, wanted=wanted
        )
    else:
        try:
            labels = read_raster_labels(source.path, grid, wanted=wanted)
        except RasterReadError:
            refuse_vectors(source.path)
            raise
    return _without_empty(labels)


def refuse_vectors(path: str) -> None:
    """Say that the field is missing, if a file that is no raster holds vectors.

    Raises:
        InputError: if it does.
    """
    try:
        fields = pyogrio.read_info(path)["fields"]
    except (DataSourceError, OSError):
        return  # nor is it a file of vectors
    raise InputError(
        f"{Path(path).name} holds features, with the fields {listed(list(fields)) or 'none'}; "
        "which one is the class is not said.",
        CHOOSE_FIELD,
    )


def _without_empty(labels: Labels) -> Labels:
    """Leave out classes that have no pixel."""
    there = labels.pixels_per_class > 0
    if there.all():
        return labels
    numbers = np.cumsum(there) - 1
    gone = [name for name, found in zip(labels.names, there, strict=True) if not found]
    words = f"No label of {listed(gone)} lies on the rasters; it is not learned."
    return replace(
        labels,
        names=tuple(name for name, found in zip(labels.names, there, strict=True) if found),
        classes=numbers[labels.classes],
        warnings=(*labels.warnings, warning("no_label", words)),
    )
