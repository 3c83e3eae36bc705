"""Write into a model's card what its training tiles were like, and measure the hint made of it.

    python tools/input_statistics.py --data <folder with s2's index.json> --model <model folder>

Prints at how many tiles the hint of ``mmearth.models.inputs`` speaks up: normal ones by source, by
the statistics of all training tiles and by those of all other sources; and the same tiles after
the mistakes that it is there to find. Weights are not touched.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "backend"))

from mmearth.models.card import CARD_NAME, ModelCard, read_card  # noqa: E402
from mmearth.models.inputs import InputStatistics, statistics, summary, unlike  # noqa: E402
from mmearth.models.readme import README_NAME, describe  # noqa: E402
from mmearth.sensors import load_sensor  # noqa: E402
from mmearth.training.softlabels import SoftTile, read_tiles  # noqa: E402

# Reflectance of thick cloud by wavelength: white, and grey in the shortwave infrared.
CLOUD_NM, CLOUD = (400, 1000, 1600, 2200), (0.6, 0.6, 0.45, 0.3)
# HLS lacks the red edge; what someone might put in its place by hand.
HLS = {"B05": "B04", "B06": "B8A", "B07": "B8A", "B08": "B8A"}
HLS_BANDS = ["B01", "B02", "B03", "B04", "B8A", "B11", "B12"]


def main() -> None:
    """Measure, and write the card unless told not to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tiles and index.json")
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--hls", type=Path, help="folder of HLS patches, another sensor")
    parser.add_argument("--keep", action="store_true", help="only measure, with the card as it is")
    options = parser.parse_args()
    card = read_card(options.model)
    tiles = read_tiles(options.data, card.bands, scale=load_sensor(card.sensor).scale)
    found = [summary(pixels(tile)) for tile in tiles]
    usual = card.inputs if options.keep else statistics(_training(tiles, found))
    if usual is None:
        raise SystemExit("The card holds no statistics: leave out --keep.")
    _report(card, usual, tiles, found, options.hls)
    if not options.keep:
        _write(options.model, usual)


def pixels(tile: SoftTile) -> np.ndarray:
    """Return the reflectance of the pixels of a tile that have data, (C, n)."""
    return tile.image[:, tile.valid]


def _training(tiles: list[SoftTile], found: list[np.ndarray], without: str = "") -> list:
    return [
        row
        for tile, row in zip(tiles, found, strict=True)
        if tile.facts["split"] == "train" and tile.facts["source"] != without
    ]


def _report(
    card: ModelCard,
    usual: InputStatistics,
    tiles: list[SoftTile],
    found: list[np.ndarray],
    hls: Path | None,
) -> None:
    sensor = load_sensor(card.sensor)

    def row(name: str, rows: list[np.ndarray], with_: InputStatistics = usual) -> None:
        told = [unlike(with_, one, card.bands, sensor) for one in rows]
        count = sum(problem is not None for problem in told)
        print(f"{name:<44} {count:>5} of {len(rows):>4}  {100 * count / len(rows):>5.1f} %")

    print(f"Statistics of {usual.tiles} training tiles. Hints at normal tiles:")
    for split in ("train", "val"):
        row(split, [f for t, f in zip(tiles, found, strict=True) if t.facts["split"] == split])
    snow = [t.facts["teacher_majority"] == "snow_and_ice" for t in tiles]
    row("snow", [f for f, yes in zip(found, snow, strict=True) if yes])
    row("no snow", [f for f, yes in zip(found, snow, strict=True) if not yes])
    for source in sorted({tile.facts["source"] for tile in tiles}):
        mine = [f for t, f in zip(tiles, found, strict=True) if t.facts["source"] == source]
        row(source, mine)
        others = statistics(_training(tiles, found, without=source))
        row(f"{source}, by statistics of the others", mine, others)
    print("Hints at the same tiles, spoilt:")
    for name, spoil in _mistakes(card).items():
        row(name, [summary(spoil(pixels(tile))) for tile in tiles])
    if hls:
        row("HLS, red edge from its neighbours", [summary(p) for p in _hls(card, hls)])


def _mistakes(card: ModelCard) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    sensor = load_sensor(card.sensor)
    nm = [sensor.band(name).wavelength_nm for name in card.bands]
    cloud = np.interp(nm, CLOUD_NM, CLOUD)[:, None]
    random = np.random.default_rng(0)

    def clouded(image: np.ndarray) -> np.ndarray:
        bright = cloud * random.uniform(0.8, 1.2, image.shape[1])
        return np.where(random.random(image.shape[1]) < 0.7, bright, image)

    return {
        "ten times too large": lambda image: image * 10,
        "three times too large": lambda image: image * 3,
        "a third of what it should be": lambda image: image / 3,
        "a tenth of what it should be": lambda image: image / 10,
        "offset of +0.1 left in": lambda image: image + 0.1,
        "bands in reverse order": lambda image: image[::-1],
        "near infrared first": lambda image: np.roll(image, 4, axis=0),
        "seven tenths under thick cloud": clouded,
    }


def _hls(card: ModelCard, folder: Path) -> list[np.ndarray]:
    order = [HLS_BANDS.index(HLS.get(name, name)) for name in card.bands]
    rows = []
    for path in sorted(folder.glob("*.tif")):
        if "worldcover" in path.name:
            continue
        with rasterio.open(path) as dataset:
            stored = dataset.read()
        rows.append(stored[order][:, (stored > 0).all(axis=0)] / 10_000)
    return rows


def _write(folder: Path, usual: InputStatistics) -> None:
    path = folder / CARD_NAME
    item = json.loads(path.read_text("utf-8"))
    properties = item["properties"]
    properties["mmearth:inputs"] = usual.model_dump(mode="json")
    properties["mmearth:training"]["input statistics"] = (
        f"python tools/input_statistics.py --data DATA --model {folder}"
    )
    path.write_text(json.dumps(item, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / README_NAME).write_text(describe(read_card(folder)), "utf-8")


if __name__ == "__main__":
    main()
