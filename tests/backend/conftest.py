"""Small scenes and small models for the backend's tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from labelled import make_tiles, relabel
from rasterio.crs import CRS
from rasterio.transform import from_origin
from scenes import CLASSES, MODEL_BANDS, ROOT, S2, UTM, scene_values

from mmearth.models.card import ModelCard, NetworkConfig
from mmearth.models.registry import build_network
from mmearth.models.save import save_model
from mmearth.settings import Settings

__all__ = ["make_tiles", "relabel"]


@pytest.fixture(autouse=True, scope="session")
def children_find_the_backend() -> Iterator[None]:
    """Processes that the backend or a test starts must import it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "backend"))
        yield


@pytest.fixture
def make_raster(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a GeoTIFF and returns its path."""

    def make(
        name: str,
        values: np.ndarray,
        *,
        bands: Sequence[str] = (),
        crs: CRS | None = UTM,
        pixel: float = 10.0,
        origin: tuple[float, float] = (600_000.0, 5_400_000.0),
        scale: float | None = None,
        offset: float = 0.0,
        band_tags: Sequence[dict[str, str]] = (),
        **profile: Any,
    ) -> Path:
        values = values[None] if values.ndim == 2 else values
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            dtype=values.dtype,
            count=values.shape[0],
            height=values.shape[1],
            width=values.shape[2],
            crs=crs,
            transform=from_origin(*origin, pixel, pixel),
            **profile,
        ) as dataset:
            dataset.write(values)
            for index, band in enumerate(bands, start=1):
                dataset.set_band_description(index, band)
            for index, tags in enumerate(band_tags, start=1):
                dataset.update_tags(index, **tags)
            if scale is not None:
                dataset.scales = [scale] * values.shape[0]
                dataset.offsets = [offset] * values.shape[0]
        return path

    return make


@pytest.fixture
def scene(make_raster: Callable[..., Path]) -> Path:
    """A Sentinel-2 scene of 12 bands, 150 x 130 pixels, with an empty corner."""
    return make_raster("scene.tif", scene_values(150, 130), bands=S2, nodata=0)


@pytest.fixture(scope="session")
def tiny_facts() -> dict[str, Any]:
    """Facts of a tiny model; its weights are random but fixed."""
    return {
        "id": "tiny",
        "version": "1.0.0",
        "title": "Tiny test model",
        "description": "For tests.",
        "licence": "CC0-1.0",
        "attribution": "Nobody.",
        "sensor": "sentinel-2",
        "levels": ("L1C", "L2A"),
        "quantity": "reflectance",
        "bands": MODEL_BANDS,
        "normalisation": {
            "function": "log1p",
            "gain": 20.0,
            "mean": (1.2,) * 10,
            "std": (0.8,) * 10,
        },
        "resolution_m": 10.0,
        "tile_size": 64,
        "stride": 8,
        "temperature": 1.0,
        "network": NetworkConfig(
            decoder="unet",
            encoder="doubleconv-16",
            options={"encoder_depth": 2, "decoder_channels": [16, 8]},
            multiply_adds_per_pixel=10_000,
        ),
        "classes": CLASSES,
        "products": (
            {"id": "landcover", "title": "Land cover", "classes": CLASSES},
            {
                "id": "treemask",
                "title": "Tree mask",
                "members": ("trees",),
                "threshold": 0.4,
                "classes": (
                    {"value": 1, "name": "trees", "title": "Trees", "color": "#397d49"},
                    {"value": 2, "name": "other", "title": "Other", "color": "#e6e2d6"},
                ),
            },
        ),
        "accuracy": ({"name": "Agreement", "value": 0.5, "data": "nothing"},),
    }


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_facts: dict[str, Any]) -> ModelCard:
    """A model folder with a tiny network."""
    torch.manual_seed(1)
    network = build_network(tiny_facts["network"], in_channels=10, classes=3)
    # Random weights at their usual size give nearly equal scores; larger ones give a map.
    torch.nn.init.normal_(network.segmentation_head[0].weight, std=0.5)
    folder = tmp_path_factory.mktemp("home") / "models" / "tiny"
    return save_model(folder, network.state_dict(), tiny_facts)


@pytest.fixture
def settings(tiny_model: ModelCard, tmp_path: Path) -> Settings:
    """Settings with a home of their own that holds the tiny model."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(tiny_model.folder.parent)
    return Settings(home=home, device="cpu", threads=1)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
