"""Labelled sites of bark-beetle damage, as the embedded model sees them at both dates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.warp import transform

from mmearth.api import MappingSpec, RasterInput
from mmearth.change.evidence import date_evidence
from mmearth.change.rule import load_rules
from mmearth.inference.predict import compute_rows
from mmearth.jobs.prepare import prepare
from mmearth.models.network import Network, loaded
from mmearth.settings import Settings

YEARS = ("2019", "2020")


@dataclass(frozen=True)
class Site:
    """A site at both dates.

    Attributes:
        trees: (2, h, w) float32, the model's probability of trees at each date.
        image: (2, C, h, w) float32, reflectance.
        teacher: (2, h, w) float32, the teacher's probability of trees.
        damaged: (h, w) bool.
        valid: (h, w) bool, data at both dates.
        unseen: whether the network learned from neither image.
        place: of its middle in metres, in Europe's equal-area projection.
    """

    trees: NDArray[np.float32]
    image: NDArray[np.float32]
    teacher: NDArray[np.float32]
    damaged: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    unseen: bool
    place: tuple[float, float]


def read_sites(data: Path, model: str, settings: Settings) -> tuple[tuple[str, ...], list[Site]]:
    """Run a model on both dates of each site, as the job does; also return its bands."""
    sites = []
    bands: tuple[str, ...] = ()
    entries = json.loads((data / "s2" / "index.json").read_text("utf-8"))
    split = {facts["file"]: facts["split"] for facts in entries}
    for path in sorted((data / "disturbance").glob("*.damage.tif")):
        name = path.name.partition(".")[0]
        shares, images, teachers = [], [], []
        for year in YEARS:
            scene = data / "s2" / "czech" / f"{name}_{year}.tif"
            spec = MappingSpec(
                kind="disturbance", inputs=[RasterInput(path=str(scene))], model=model
            )
            ready = prepare(spec, settings)
            bands = ready.card.bands
            network = loaded(Network, ready.card, settings)
            rows = compute_rows(
                ready.stack(),
                date_evidence(network, load_rules()[-1]),
                ready.layout,
                network.workload(ready.layout.rows.tile),
            )
            shares.append(np.concatenate([part.values[0].numpy() for part in rows]))
            with ready.stack() as stack:
                image, valid = stack.read_rows(0, ready.grid.height)
            shares[-1][~valid] = np.nan
            images.append(image)
            with rasterio.open(scene.with_suffix(".teacher.tif")) as source:
                teachers.append(source.read(2) / np.float32(250))
        with rasterio.open(path) as source:
            damaged = source.read(1) == 1
            middle = source.xy(source.height // 2, source.width // 2)
            (x,), (y,) = transform(source.crs, "EPSG:3035", *([number] for number in middle))
        valid = np.isfinite(shares).all(axis=0)
        unseen = all(split[f"czech/{name}_{year}.tif"] == "val" for year in YEARS)
        sites.append(
            Site(
                np.stack(shares),
                np.stack(images),
                np.stack(teachers),
                damaged,
                valid,
                unseen,
                (x, y),
            )
        )
    return bands, sites
