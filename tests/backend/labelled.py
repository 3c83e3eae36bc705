"""Labelled tiles for evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scenes import S2

SIDE = 32
CLASSES = ("dark", "grey", "light")


@pytest.fixture
def make_tiles(tmp_path, make_raster) -> Callable[..., Path]:
    """Return a function that writes tiles whose halves have a brightness of one class each."""

    def make(count: int = 12, *, mixed: bool = True) -> Path:
        random = np.random.default_rng(0)
        rows = []
        for number in range(count):
            place = (600_000.0 + 1000 * number, 5_400_000.0)
            one, other = number % 3, (number + mixed * (number // 3)) % 3
            labels = np.full((SIDE, SIDE), one, np.uint8)
            labels[:, SIDE // 2 :] = other
            values = random.normal(0, 40, (len(S2), SIDE, SIDE)) + 500 + 1500.0 * labels
            name = f"t{number:02}"
            make_raster(
                f"tiles/{name}.tif", values.astype(np.uint16), bands=S2, nodata=0, origin=place
            )
            make_raster(f"tiles/{name}.label.tif", labels + 1, origin=place)
            rows.append(
                {
                    "file": f"{name}.tif",
                    "split": "val" if number % 4 == 3 else "train",
                    "group": name,
                    "level": "L2A",
                    "cover": CLASSES[one],
                    "shows": [CLASSES[one], CLASSES[other]],
                }
            )
        (tmp_path / "tiles" / "index.json").write_text(json.dumps(rows))
        return tmp_path / "tiles"

    return make


@pytest.fixture
def relabel() -> Callable[..., None]:
    """Return a function that changes entries of a list of tiles."""

    def change(folder: Path, places: list[int], **fields: object) -> None:
        rows = json.loads((folder / "index.json").read_text())
        for place in places:
            rows[place].update(fields)
        (folder / "index.json").write_text(json.dumps(rows))

    return change
