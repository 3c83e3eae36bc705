"""Train the embedded forest model for true-colour pictures: a small network on red, green and blue.

    python tools/train_forest_rgb.py --data <folder with s2/ and amazon_rgb/>

Learns from Sentinel-2 tiles with the likeliest classes of Dynamic World, drawn as 8-bit pictures in
many stretches, and from pictures of the Amazon with forest masks (Bragagnolo et al. 2019, CC BY
4.0). Writes resources/models/forest-rgb (weights, card) and the log of the run. The splits are
those that come with the data: by place in s2/index.json, the tag SPLIT of the Amazon's files.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from training import (
    MODELS,
    Log,
    add_recipe,
    calibrate,
    commands,
    figure,
    network_config,
    recipe,
    recipe_words,
)

from benchmarks import amazon
from benchmarks.agreement import is_calibration, tile_scores
from benchmarks.mapped import map_file
from mmearth.models.card import ModelCard, Normalisation, read_card
from mmearth.models.inputs import statistics, summary
from mmearth.models.network import Normaliser, load_weights
from mmearth.models.registry import build_network
from mmearth.models.save import save_model
from mmearth.sensors import load_sensor
from mmearth.training.augment import RadiometricJitter
from mmearth.training.distill import distill
from mmearth.training.metrics import calibration_error, confusion, intersection_over_union
from mmearth.training.softlabels import CropSampler, SoftTile, read_tiles

MODEL_ID = "forest-rgb"
VERSION = "1.1.0"
SENSOR = load_sensor("sentinel-2-tci")
BANDS = ("red", "green", "blue")
S2_BANDS, S2_SCALE = ("B04", "B03", "B02"), 0.0001
TREES = 1  # of the nine classes of Dynamic World
# Reflectance that becomes 255 in ESA's true-colour images (Sentinel-2 MSI User Guide).
BRIGHTEST = {"L1C": 0.3558, "L2A": 0.2}
LOG_GAIN = 20.0  # forests are dark in pictures, and told by small differences there
AMAZON_WEIGHT = 25  # each of its few tiles counts as so many
DECODER, ENCODER = "cosine", "separable-32"  # as of the land-cover models, see there
STRIDE = 2
OVERLAP = 64
CLASSES = (
    {"value": 1, "name": "trees", "title": "Trees", "color": "#397d49"},
    {"value": 2, "name": "other", "title": "Other", "color": "#e6e2d6"},
)

ATTRIBUTION = (
    "Trained on the Amazon Rainforest dataset for semantic segmentation (Bragagnolo, da Silva and "
    "Grzybowski 2019, CC BY 4.0) and with teacher labels of the Dynamic World model "
    "(google/dynamicworld, Apache-2.0; Brown et al. 2022) on images that contain modified "
    "Copernicus Sentinel data, from EuroSAT (Helber et al. 2019, MIT), EOTDL (EarthPulse, MIT), "
    "Major TOM (ESA Phi-lab, CC BY-SA 4.0), DSen2 (Lanaras et al. 2018, CC BY 4.0), TerraMesh and "
    "TerraMind (IBM and ESA, CC BY-SA 4.0 and Apache-2.0), SSL4EO-S12 (Wang et al. 2023, CC BY "
    "4.0), BigEarthNet (Sumbul et al. 2021, CDLA-Permissive-1.0), and Czech forest sites of 2019 "
    "and 2020."
)
LIMITS = (
    "Colours are much of what it knows: a random forest on nothing but the colours of the Amazon's "
    "pictures maps others of these nearly as well, see the figures.",
    "Three colours tell trees from green crops, meadows and dark water worse than the near and "
    "shortwave infrared: where these bands are at hand, use a model that reads them.",
    "A picture that was stretched by itself, as QGIS shows a new raster, holds no brightness that "
    "could be compared, and is mapped wrongly: see the figures.",
    "Dark water, burnt ground and shadows of hills and clouds are taken for trees at times; young "
    "regrowth and plantations for forest, and open savanna woodland for neither reliably.",
    "Made for pixels of 10 m. Aerial and drone pictures are averaged to 10 m first; single trees "
    "are not mapped, and pictures of their kind were never shown.",
    "Learned from European sites, ports and farmland, a few scenes elsewhere, and the Brazilian "
    "Amazon. Boreal forests, mangroves and drylands were hardly shown.",
    "Natural colours only: a colour-infrared picture, whose bands are stored as if they were red, "
    "green and blue, is mapped wrongly.",
    "Clouds are no class; mask them before, or the map holds nonsense there.",
)


class Stretch:
    """Pictures as they are made for viewing.

    A call takes and gives what ``RadiometricJitter`` does, but of values of which 0 to 1 are shown
    in ESA's true-colour images, and gives brightness from 0 to 1 in steps of 8 bits. Four crops in
    five are drawn like ESA's, the others between other limits and with a gamma. None is stretched
    by itself: its brightness would tell nothing.
    """

    def __init__(self) -> None:
        self._jitter = RadiometricJitter(haze=0.01, offset=0.003, chance=0.3)  # of shown values

    def __call__(
        self, images: torch.Tensor, wavelengths_um: torch.Tensor, random: torch.Generator
    ) -> torch.Tensor:
        """Draw a batch. (B, 3, H, W) to (B, 3, H, W) brightness."""
        images = self._jitter(images, wavelengths_um, random)
        count = len(images)

        def uniform(low: float, high: float) -> torch.Tensor:
            return low + (high - low) * torch.rand(count, 1, 1, 1, generator=random)

        like_esa = torch.rand(count, 1, 1, 1, generator=random) < 0.8
        low = torch.where(like_esa, torch.zeros(()), uniform(0, 0.08))
        high = torch.where(like_esa, torch.ones(()), uniform(0.5, 1.3))
        gamma = torch.where(like_esa, torch.ones(()), uniform(1, 1.8))
        return picture(images, low, high, gamma)


def picture(
    image: torch.Tensor,
    low: torch.Tensor | float,
    high: torch.Tensor | float,
    gamma: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Stretch values to 1 to 255, as brightness; 0 is no data, which is left to the mask."""
    share = ((image - low) / (high - low)).clamp(0, 1) ** (1 / gamma)
    return (1 + 254 * share).round() / 255


def as_esa(tile: SoftTile) -> SoftTile:
    """Return a tile as ESA's true-colour image of its level."""
    return replace(tile, image=picture(torch.from_numpy(tile.image), 0.0, 1.0).numpy())


def as_cut(tile: SoftTile) -> SoftTile:
    """Return a tile as QGIS shows a new raster: each band from its 2nd to its 98th percentile."""
    image = torch.from_numpy(tile.image)
    low, high = torch.quantile(image[:, tile.valid], torch.tensor([0.02, 0.98]), dim=1)
    drawn = picture(image, low[:, None, None], high[:, None, None])
    return replace(tile, image=drawn.numpy())


def main() -> None:
    """Train, calibrate, measure, save."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tiles = [_binary(t) for t in read_tiles(options.data / "s2", S2_BANDS, scale=S2_SCALE)]
    pictures = amazon.read(options.data / "amazon_rgb")
    tiles += _amazon(pictures)
    training = [t for t in tiles if t.facts["split"] == "train"]
    calibration = [as_esa(t) for t in training if is_calibration(t.facts)]
    training = [t for t in training if not is_calibration(t.facts)]
    validation = [t for t in tiles if t.facts["split"] == "val"]
    log = Log(options.output, options)

    seen = np.concatenate([as_esa(t).image[:, t.valid][:, ::7] for t in training], axis=1)
    seen = np.log1p(LOG_GAIN * seen)
    norm = Normalisation(
        function="log1p",
        gain=LOG_GAIN,
        mean=tuple(round(float(v), 4) for v in seen.mean(axis=1)),
        std=tuple(round(float(v), 4) for v in seen.std(axis=1)),
    )
    normalise = Normaliser(norm)
    config = network_config(DECODER, ENCODER, {}, bands=len(BANDS), classes=len(CLASSES))
    watched = [as_esa(t) for t in validation[:: options.watch]]

    def watch(step: int, loss: float, average: torch.nn.Module) -> None:
        log.write(step=step, loss=round(loss, 5), **_quick_figures(average, normalise, watched))

    few = [t for t in training if t.facts["source"] == "amazon"]
    network = build_network(config, in_channels=len(BANDS), classes=len(CLASSES))
    start = read_card(options.start) if options.start else None
    if start:
        load_weights(network, start)
    student = distill(
        network,
        normalise,
        CropSampler(training + (AMAZON_WEIGHT - 1) * few, options.crop, options.seed, step=STRIDE),
        recipe(options),
        Stretch(),
        torch.tensor([SENSOR.band(name).wavelength_nm / 1000 for name in BANDS]),
        watch=watch,
        every=max(1, options.steps // 5),
    )
    temperature, threshold = calibrate(student, normalise, calibration, trees=0)
    log.write(temperature=temperature, threshold=threshold)

    facts = _facts(config, norm, temperature, threshold, options)
    facts["inputs"] = statistics(list(_summaries(training + calibration, options))).model_dump()
    if start:
        facts["training"]["start"] = commands(start)
    card = save_model(options.output, student.state_dict(), {**facts, "accuracy": ()})
    figures = measure(card, tiles, pictures)
    log.write(final=figures)
    save_model(options.output, student.state_dict(), {**facts, "accuracy": tuple(figures)})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of s2/ and amazon_rgb/")
    parser.add_argument("--output", type=Path, default=MODELS / MODEL_ID)
    add_recipe(parser, steps=4_000, batch=8, crop=96, threads=1)
    parser.add_argument("--watch", type=int, default=8, help="one validation tile in so many")
    return parser.parse_args()


def _binary(tile: SoftTile) -> SoftTile:
    """Keep what is shown, and whether trees are the teacher's likeliest class.

    Its probability of trees is far from certain even in forest: a model that learned it would call
    no forest denser than six tenths.
    """
    trees = tile.target.argmax(axis=0) == TREES
    target = np.stack([trees, ~trees]).astype(np.float32) * tile.valid
    return replace(tile, image=tile.image / BRIGHTEST[tile.facts["level"]], target=target)


def _amazon(pictures: Sequence[amazon.Picture]) -> list[SoftTile]:
    """Make tiles of pictures and masks; the pictures are stretched as ESA's of Level-1C."""
    tiles = []
    for one in pictures:
        facts = {
            "group": f"amazon-{one.path.stem}",
            "source": "amazon",
            "split": one.split,
            "level": "L1C",
        }
        image = (np.maximum(one.image, 1).astype(np.float32) - 1) / 254
        target = np.stack([one.label == 1, one.label == 2]).astype(np.float32)
        tiles.append(SoftTile(facts, one.path, image, target, one.known))
    return tiles


def _truth(tile: SoftTile) -> np.ndarray:
    """Return where there are trees, of pixels with data. (n,) bool."""
    return (tile.target[0] == 1)[tile.valid]


def _quick_figures(
    network: torch.nn.Module, normalise: Normaliser, tiles: list[SoftTile]
) -> dict[str, float]:
    matrices: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((2, 2), np.int64))
    for tile in tiles:
        mapped = (tile_scores(network, normalise, tile).argmax(dim=0).numpy() == 0)[tile.valid]
        name = "amazon" if tile.facts["source"] == "amazon" else "s2"
        matrices[name] += confusion(_truth(tile).astype(int), mapped.astype(int), 2)
    return {f"{name}_iou": round(_iou(matrix), 4) for name, matrix in sorted(matrices.items())}


def _iou(matrix: np.ndarray) -> float:
    return float(intersection_over_union(matrix)[1])


def _summaries(tiles: list[SoftTile], options: argparse.Namespace) -> Iterator[np.ndarray]:
    """Describe each tile as ESA's picture, and in two other stretches."""
    random, still = torch.Generator().manual_seed(options.seed), torch.ones(len(BANDS))
    for tile in tiles:
        yield summary(as_esa(tile).image[:, tile.valid])
        for _ in range(2):
            drawn = Stretch()(torch.from_numpy(tile.image)[None], still, random)[0].numpy()
            yield summary(drawn[:, tile.valid])


def measure(
    card: ModelCard, tiles: list[SoftTile], pictures: Sequence[amazon.Picture]
) -> list[dict[str, Any]]:
    """Measure a saved model on files, with the code that users run; and a random forest."""
    others = [t for t in tiles if t.facts["split"] == "val" and t.facts["source"] != "amazon"]
    rows = _measure_amazon(card, pictures)
    for name, draw in (("as true-colour image", as_esa), ("each stretched by itself", as_cut)):
        matrices: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((2, 2), np.int64))
        for tile in others:
            mapped = _mapped(card, draw(tile)) >= card.products[0].threshold
            matrix = confusion(_truth(tile).astype(int), mapped.astype(int), 2)
            matrices["all"] += matrix
            if draw is as_esa:
                matrices[tile.facts["source"]] += matrix
        for source, matrix in matrices.items():
            if not np.isnan(_iou(matrix)):
                of = "" if source == "all" else f", {source}"
                where = f"Sentinel-2 validation places {name}, against the teacher's classes"
                rows.append(figure(f"Tree mask IoU{of}", _iou(matrix), where))
    return rows


def _measure_amazon(card: ModelCard, pictures: Sequence[amazon.Picture]) -> list[dict[str, Any]]:
    held = amazon.of_split(pictures, "val")
    probability = np.concatenate([map_file(card, one.path)[0][0][one.known] for one in held])
    truth = amazon.truth(held)
    mapped = probability >= card.products[0].threshold
    baseline = amazon.forest_on_colours(pictures)
    where = f"Amazon, {len(held)} held-back pictures, published masks"
    data = truth.astype(int)
    sure = np.where(probability >= 0.5, probability, 1 - probability)
    return [
        figure("Forest IoU", _iou(confusion(data, mapped.astype(int), 2)), where),
        figure(
            "Forest IoU of a random forest on red, green and blue",
            _iou(confusion(data, baseline.astype(int), 2)),
            where,
        ),
        figure("Agreement", (mapped == truth).mean(), where),
        figure("Calibration error", calibration_error(sure, (probability >= 0.5) == truth), where),
    ]


def _mapped(card: ModelCard, tile: SoftTile) -> np.ndarray:
    """Return the probability of trees of a drawn tile, written to a file and mapped. (n,)."""
    with rasterio.open(tile.path) as dataset:
        profile = {"crs": dataset.crs, "transform": dataset.transform}
    height, width = tile.valid.shape
    stored = np.where(tile.valid, np.round(tile.image * 255), 0).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.tif"
        with rasterio.open(
            path, "w", driver="GTiff", dtype="uint8", count=3, height=height, width=width,
            photometric="RGB", **profile,
        ) as dataset:  # fmt: skip
            dataset.write(stored)
            dataset.descriptions = BANDS
        values, _ = map_file(card, path)
    return values[0][tile.valid]


def _facts(
    config: Any,
    norm: Normalisation,
    temperature: tuple[float, ...],
    threshold: float,
    options: argparse.Namespace,
) -> dict[str, Any]:
    return {
        "id": MODEL_ID,
        "version": VERSION,
        "title": "Forest in true colour",
        "description": "Trees and everything else at 10 m from Sentinel-2's true-colour image "
        "(TCI, 8 bits): a small network.",
        "licence": "CC-BY-SA-4.0",
        "attribution": ATTRIBUTION,
        "limits": LIMITS,
        "sensor": SENSOR.id,
        "levels": tuple(BRIGHTEST),
        "quantity": SENSOR.quantity,
        "bands": BANDS,
        "normalisation": norm,
        "resolution_m": 10.0,
        "tile_size": 256,
        "stride": STRIDE,
        "overlap": OVERLAP,
        "temperature": temperature,
        "network": config,
        "classes": CLASSES,
        "products": (
            {
                "id": "treemask",
                "title": "Tree mask",
                "members": ("trees",),
                "threshold": threshold,
                "classes": CLASSES,
            },
        ),
        "training": {
            "command": f"python tools/train_forest_rgb.py --data DATA {recipe_words(options)}",
            "method": "the teacher's likeliest classes and published masks, on pictures in many "
            "stretches",
            "teacher": "Dynamic World forward model (google/dynamicworld, Apache-2.0)",
            "seed": options.seed,
        },
    }


if __name__ == "__main__":
    main()
