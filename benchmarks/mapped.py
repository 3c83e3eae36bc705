"""Maps of files by a saved model, found, scaled and tiled as in a user's job."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from mmearth.api import RasterInput, SegmentOutputs, SegmentSpec
from mmearth.inference.predict import class_probabilities, compute_rows
from mmearth.jobs.prepare import prepare
from mmearth.models.card import ModelCard
from mmearth.models.network import Network, loaded
from mmearth.settings import Settings


def map_file(card: ModelCard, path: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Map a raster with a saved model.

    Returns:
        Probabilities (K, H, W) float32 and valid (H, W) bool.
    """
    with rasterio.open(path) as dataset:
        small = max(dataset.shape) <= card.tile_size // 2
    spec = SegmentSpec(
        inputs=[RasterInput(path=str(path), label="")],
        model=card.id,
        outputs=SegmentOutputs(),
        tile_size=card.tile_size // 2 if small else None,  # most of a tile would be a mirror
    )
    # An empty home: a model of the user's own that has the same id would come first.
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(
            home=Path(home), models=card.folder.parent, threads=torch.get_num_threads()
        )
        ready = prepare(spec, settings)
        network = loaded(Network, ready.card, settings)
        workload = network.workload(ready.layout.rows.tile)
        parts = list(
            compute_rows(ready.stack(), class_probabilities(network), ready.layout, workload)
        )
    values = torch.cat([part.values for part in parts], dim=1).numpy()
    return values, np.concatenate([part.valid for part in parts])
