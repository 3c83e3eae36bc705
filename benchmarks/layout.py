"""A folder of the tiles of s2/ that can be learned from together, with what lies beside them.

    python -m benchmarks.layout <folder s2 with index.json> <new folder>

Tiles are left out that are smaller than a crop, have no place on the map, or pixels of another
size than 10 m; of those to learn from, also those that show ground of a tile to test on. Images and
the teacher's labels are linked. Two bands that ``landcover-s2`` is not shown, B01 (aerosols) and
B09 (water vapour), lie beside each tile as a modality, ``atmosphere``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import rasterio

from benchmarks import ROOT
from benchmarks.common import MODEL
from mmearth.evaluation.tiles import shared_ground
from mmearth.models.card import read_card
from mmearth.pretraining.datasets.listing import DECLARED, INDEX, read_listing

CROP = 64
OTHER_PIXELS = ("czech",)  # sources whose pixels are not 10 m
UNSEEN = ("B01", "B09")
TEACHER, ATMOSPHERE = ".teacher.tif", ".atmosphere.tif"


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
    bands = read_card(ROOT / "resources" / "models" / MODEL).bands
    kept = []
    for facts in rows:
        path = data / facts["file"]
        if path in shared:
            continue
        name = facts["file"].replace("/", "_").removesuffix(".tif")
        (folder / f"{name}.tif").symlink_to(path)
        (folder / f"{name}{TEACHER}").symlink_to(path.with_name(path.stem + TEACHER))
        _write_unseen(path, folder / f"{name}{ATMOSPHERE}", set(bands))
        more = {key: facts[key] for key in ("split", "group", "level")}
        kept.append({"file": f"{name}.tif", **more})
    declared = {"atmosphere": {"suffix": ATMOSPHERE, "kind": "continuous", "nodata": 0}}
    (folder / INDEX).write_text(json.dumps(kept))
    (folder / DECLARED).write_text(json.dumps(declared))


def _write_unseen(path: Path, target: Path, seen: set[str]) -> None:
    """Write the bands of a tile that the encoder is not shown, as another modality."""
    if seen & set(UNSEEN):
        raise ValueError(f"{MODEL} is shown {sorted(seen & set(UNSEEN))}.")
    with rasterio.open(path) as source:
        places = [source.descriptions.index(band) + 1 for band in UNSEEN]
        profile = {**source.profile, "count": len(UNSEEN)}
        with rasterio.open(target, "w", **profile) as file:
            file.write(source.read(places))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Lay out tiles that can be learned from together.")
    parser.add_argument("data", type=Path, metavar="S2", help="folder of tiles with index.json")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new")
    options = parser.parse_args()
    print(lay_out(options.data, options.folder))
