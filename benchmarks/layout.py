"""A folder of the tiles of s2/ that can be learned from together, with what lies beside them.

    python -m benchmarks.layout <folder s2 with index.json> <new folder>

Tiles are left out that are smaller than a crop, have no place on the map, or pixels of another
size than 10 m; of those to learn from, also those that show ground of a tile to test on. Images and
the teacher's labels are linked. Beside each tile lie, as modalities, the bands that an encoder of
the four bands of 10 m is not shown: ``infrared``, of red edge and short-wave infrared,
and ``atmosphere``, B01 (aerosols) and B09 (water vapour).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import rasterio

from mmearth.evaluation.tiles import shared_ground
from mmearth.pretraining.datasets.listing import DECLARED, INDEX, read_listing

CROP = 64
OTHER_PIXELS = ("czech",)  # sources whose pixels are not 10 m
TEACHER = ".teacher.tif"
BESIDE = {
    "infrared": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "atmosphere": ("B01", "B09"),
}


def lay_out(data: Path, folder: Path) -> Path:
    """Lay out the tiles that are learned from and tested on, and what lies beside them.

    Args:
        data: folder s2, with its list.
        folder: new, which is returned. It is there only when it is done.
    """
    if folder.exists():
        raise SystemExit(f"{folder} exists already; name a new folder, or remove it.")
    data = data.resolve()  # links are followed from where they lie
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as scratch:
        laid = Path(scratch) / "tiles"
        _fill(data, laid)
        laid.rename(folder)
    return folder


def _fill(data: Path, folder: Path) -> None:
    folder.mkdir()
    rows = [
        facts
        for facts in (row.facts() for row in read_listing(data, "").entries)
        if facts["crs"]
        and facts["source"] not in OTHER_PIXELS
        and min(facts["height"], facts["width"]) >= CROP
    ]
    parts = {
        part: [data / facts["file"] for facts in rows if facts["split"] == part]
        for part in ("train", "val")
    }
    shared = {path for path, _ in shared_ground(parts["train"], parts["val"])}
    kept = []
    for facts in rows:
        path = data / facts["file"]
        if path in shared:
            continue
        name = facts["file"].replace("/", "_").removesuffix(".tif")
        (folder / f"{name}.tif").symlink_to(path)
        (folder / f"{name}{TEACHER}").symlink_to(path.with_name(path.stem + TEACHER))
        for modality, bands in BESIDE.items():
            _write_bands(path, folder / f"{name}.{modality}.tif", bands)
        more = {key: facts[key] for key in ("split", "group", "level")}
        kept.append({"file": f"{name}.tif", **more})
    declared = {
        name: {"suffix": f".{name}.tif", "kind": "continuous", "nodata": 0} for name in BESIDE
    }
    (folder / INDEX).write_text(json.dumps(kept))
    (folder / DECLARED).write_text(json.dumps(declared))


def _write_bands(path: Path, target: Path, bands: Sequence[str]) -> None:
    """Write some bands of a tile as a modality."""
    with rasterio.open(path) as source:
        places = [source.descriptions.index(band) + 1 for band in bands]
        profile = {**source.profile, "count": len(bands)}
        with rasterio.open(target, "w", **profile) as file:
            file.write(source.read(places))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Lay out tiles that can be learned from together.")
    parser.add_argument("data", type=Path, metavar="S2", help="folder of tiles with index.json")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new")
    options = parser.parse_args()
    print(lay_out(options.data, options.folder))
