"""Train the embedded land-cover model: soft labels of Dynamic World, distilled into a small net.

    python tools/train_landcover.py --data <folder of tiles, s2/> --more <folder> --mixed

Writes resources/models/landcover-s2 (weights, card) and the log of the run beside them. The data is
described in that folder's README.md; its split by place is respected. ``--more`` takes what
``tools/label_tiles.py`` made of the training tiles: the teacher's answers to changed images.
``--model landcover-s2-10m`` trains the one that needs the four bands of 10 m alone. ``--balance``
lets rare classes count more, where bands tell classes apart so badly that the commonest one wins.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training import (
    MODELS,
    Log,
    add_recipe,
    calibrate,
    commands,
    network_config,
    recipe,
    recipe_words,
)

from benchmarks.agreement import compare, is_calibration, measure, tile_scores
from benchmarks.calibration import card_figures, look
from benchmarks.start import begin_with
from mmearth.models.card import NetworkConfig, Normalisation, read_card
from mmearth.models.inputs import statistics, summary
from mmearth.models.network import Normaliser
from mmearth.models.readme import DIAGRAM_NAME
from mmearth.models.registry import build_network
from mmearth.models.save import save_model
from mmearth.sensors import load_sensor
from mmearth.training.augment import RadiometricJitter
from mmearth.training.distill import class_weighted, distill, divergence
from mmearth.training.metrics import agreement, intersection_over_union
from mmearth.training.softlabels import CropSampler, SoftTile, rarity, read_tiles

VERSION = "1.1.0"
SENSOR = load_sensor("sentinel-2")
BANDS = {
    "landcover-s2": ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    "landcover-s2-10m": ("B02", "B03", "B04", "B08"),
}
TEXTS: dict[str, dict[str, Any]] = {
    "landcover-s2": {
        "title": "Sentinel-2 land cover",
        "description": "Nine classes of land cover at 10 m from ten bands of Sentinel-2, Level-1C "
        "or Level-2A: a small network that learned from the Dynamic World model.",
        "limits": (),
    },
    "landcover-s2-10m": {
        "title": "Sentinel-2 land cover, 10 m bands alone",
        "description": "Nine classes of land cover at 10 m from blue, green, red and near infrared "
        "of Sentinel-2, Level-1C or Level-2A: a small network that learned from the Dynamic World "
        "model. Where the bands of 20 m are at hand, Sentinel-2 land cover maps better.",
        "limits": (
            "Without the red edge and the shortwave infrared it maps snow, grass, crops, shrub, "
            "built-up and bare ground worse than Sentinel-2 land cover does, and finds hardly any "
            "flooded vegetation; see the figures. Trees and water it maps nearly as well.",
            "Of EuroSAT's scenes (Level-1C) it tells no more than a random forest on the same four "
            "bands whose classes count alike, see docs/results.md of the repository.",
            "Four bands of these colours are what many cameras have: it was never tried on "
            "images of another sensor.",
        ),
    },
}
LOG_GAIN = 20.0  # ln(1 + 20 r) spreads dark water and bright snow about evenly
TILE = 256
OVERLAP = 64  # the network looks 22 pixels far: a tile's middle is the same in every tile

# Names and colours of Dynamic World (Brown et al. 2022, doi:10.1038/s41597-022-01307-4).
CLASSES = [
    {"value": number, "name": name, "title": title, "color": color}
    for number, (name, title, color) in enumerate(
        [
            ("water", "Water", "#419bdf"),
            ("trees", "Trees", "#397d49"),
            ("grass", "Grass", "#88b053"),
            ("flooded_vegetation", "Flooded vegetation", "#7a87c6"),
            ("crops", "Crops", "#e49635"),
            ("shrub_and_scrub", "Shrub and scrub", "#dfc35a"),
            ("built", "Built-up", "#c4281b"),
            ("bare", "Bare ground", "#a59b8f"),
            ("snow_and_ice", "Snow and ice", "#b39fe1"),
        ],
        start=1,
    )
]
NAMES = [row["name"] for row in CLASSES]
TREES = NAMES.index("trees")

# After the teacher's own plan, narrower.
DECODER, ENCODER = "cosine", "separable-48"
STRIDE = 2

ATTRIBUTION = (
    "Trained with teacher labels of the Dynamic World model (google/dynamicworld, Apache-2.0; "
    "Brown et al. 2022) on images that contain modified Copernicus Sentinel data, from EuroSAT "
    "(Helber et al. 2019, MIT), EOTDL (EarthPulse, MIT), Major TOM (ESA Phi-lab, CC BY-SA 4.0), "
    "DSen2 (Lanaras et al. 2018, CC BY 4.0), TerraMesh and TerraMind (IBM and ESA, CC BY-SA 4.0 "
    "and Apache-2.0), SSL4EO-S12 (Wang et al. 2023, CC BY 4.0), BigEarthNet (Sumbul et al. 2021, "
    "CDLA-Permissive-1.0), and Czech forest sites of 2019 and 2020."
)


LIMITS = (
    "Agreement is with the teacher, which errs too: it is not accuracy on the ground. Compare the "
    "map with your own ground truth before it goes into a report.",
    "Flooded vegetation, bare ground, grass and shrub are rare in the training places, or shade "
    "into one another; their IoU is low.",
    "In the dry season of the tropics, as in the sample scene of Thailand, crops, grass, shrub and "
    "flooded vegetation are often confused; dark burnt fields may become trees or water, and "
    "bright sand snow.",
    "Most places are European: coasts, farmland, towns and forests. Deserts, savannas, boreal and "
    "tropical rain forests were hardly shown.",
    "The teacher reads Level-1C. Level-2A tiles were mapped to an approximation of it before they "
    "were labelled, so what was learned of Level-2A is noisier.",
    "Clouds and their shadows are no class; mask them before, or the map holds nonsense there.",
)


def main() -> None:
    """Train, calibrate, measure, save."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    held_out = set(filter(None, options.hold_out.split(",")))
    bands = BANDS[options.model]
    tiles = read_tiles(options.data, bands, scale=SENSOR.scale)

    def taught(facts: dict[str, Any]) -> bool:
        return facts["split"] == "train" and facts["source"] not in held_out

    training = [t for t in tiles if taught(t.facts) and not is_calibration(t.facts)]
    calibration = [t for t in tiles if taught(t.facts) and is_calibration(t.facts)]
    changed = []
    if options.more:

        def wanted(facts: dict[str, Any]) -> bool:
            return taught(facts) and not is_calibration(facts)

        changed = read_tiles(options.more, bands, scale=SENSOR.scale, wanted=wanted)
    validation = [t for t in tiles if t.facts["split"] == "val"]
    log = Log(options.output, options)

    norm = _statistics(training)
    config = network_config(DECODER, ENCODER, {}, bands=len(bands), classes=len(CLASSES))
    network = build_network(config, in_channels=len(bands), classes=len(CLASSES))
    start = read_card(options.start) if options.start else None
    if start:
        begin_with(network, bands, start)
    normalise = Normaliser(norm)
    wavelengths = torch.tensor([SENSOR.band(name).wavelength_nm / 1000 for name in bands])
    # Labels of changed tiles are the teacher's answer to that very change; others are not.
    jitter = RadiometricJitter(chance=0.0) if changed else RadiometricJitter()

    def watch(step: int, loss: float, average: torch.nn.Module) -> None:
        figures = _quick_figures(average, normalise, validation)
        log.write(step=step, loss=round(loss, 5), **figures)

    # The teacher halves its image, and so does the network: crops keep pairs of pixels.
    crops = CropSampler(
        changed or training, options.crop, options.seed, step=STRIDE, balance=options.balance
    )
    weights = torch.from_numpy(rarity(crops.class_shares, options.balance)).float()
    student = distill(
        network,
        normalise,
        crops,
        recipe(options),
        jitter,
        wavelengths,
        loss=class_weighted(weights) if options.balance else divergence,
        watch=watch,
        every=max(1, options.steps // 20),
    )
    temperature, threshold = calibrate(student, normalise, calibration, TREES)
    log.write(temperature=temperature, threshold=threshold)
    facts = _facts(config, norm, temperature, threshold, options)
    seen = [summary(t.image[:, t.valid]) for t in (*training, *calibration)]
    facts["inputs"] = statistics(seen).model_dump()
    if start:
        facts["training"]["start"] = commands(start)
    card = save_model(options.output, student.state_dict(), {**facts, "accuracy": ()})
    figures = measure(card, [t for t in tiles if not held_out or t.facts["source"] in held_out
                             or t.facts["split"] == "val"], held_out)  # fmt: skip
    certain, drawing = card_figures(look(card, validation))
    figures += certain
    log.write(final=figures)
    facts["accuracy"] = tuple(figures)
    save_model(options.output, student.state_dict(), facts, beside={DIAGRAM_NAME: drawing})
    for row in figures:
        print(f"{row['value']:.4f}  {row['name']} ({row['data']})")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tiles and index.json")
    parser.add_argument("--more", type=Path, help="folder of tiles by tools/label_tiles.py")
    parser.add_argument("--model", choices=sorted(BANDS), default="landcover-s2")
    parser.add_argument("--output", type=Path, help="folder of the model; else among resources")
    add_recipe(parser, steps=14_500, batch=8, crop=96, threads=torch.get_num_threads())
    parser.add_argument(
        "--balance",
        type=float,
        default=0.0,
        help="how much more rare classes are drawn and count, 0 to 1",
    )
    parser.add_argument(
        "--hold-out", default="", help="sources to leave out of training and to measure on"
    )
    options = parser.parse_args()
    if not 0 <= options.balance <= 1:
        parser.error(f"--balance must lie from 0 to 1, found {options.balance:g}")
    if options.start and options.hold_out:
        parser.error("--start cannot go with --hold-out: its model may have seen what is held out")
    options.output = options.output or MODELS / options.model
    return options


def _statistics(tiles: list[SoftTile]) -> Normalisation:
    values = np.concatenate([t.image[:, t.valid][:, ::7] for t in tiles], axis=1)
    values = np.log1p(LOG_GAIN * np.maximum(values, 0))
    return Normalisation(
        function="log1p",
        gain=LOG_GAIN,
        mean=tuple(round(float(v), 4) for v in values.mean(axis=1)),
        std=tuple(round(float(v), 4) for v in values.std(axis=1)),
    )


def _quick_figures(
    network: torch.nn.Module, normalise: Normaliser, tiles: list[SoftTile]
) -> dict[str, float]:
    matrix = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for tile in tiles:
        mapped = tile_scores(network, normalise, tile).argmax(dim=0).numpy()
        matrix += compare(tile, mapped)
    return {
        "agreement": round(agreement(matrix), 4),
        "tree_iou": round(float(intersection_over_union(matrix)[TREES]), 4),
    }


def _facts(
    config: NetworkConfig,
    norm: Normalisation,
    temperature: tuple[float, ...],
    threshold: float,
    options: argparse.Namespace,
) -> dict[str, Any]:
    texts = TEXTS[options.model]
    trees = CLASSES[TREES]
    other = {"value": 2, "name": "other", "title": "Other", "color": "#e6e2d6"}
    return {
        "id": options.model,
        "version": VERSION,
        **texts,
        "licence": "CC-BY-SA-4.0",
        "attribution": ATTRIBUTION,
        "limits": (*texts["limits"], *LIMITS),
        "sensor": SENSOR.id,
        "levels": ("L1C", "L2A"),
        "quantity": SENSOR.quantity,
        "bands": BANDS[options.model],
        "normalisation": norm,
        "resolution_m": 10.0,
        "tile_size": TILE,
        "stride": STRIDE,
        "overlap": OVERLAP,
        "temperature": temperature,
        "network": config,
        "classes": tuple(CLASSES),
        "products": (
            {"id": "landcover", "title": "Land cover", "classes": tuple(CLASSES)},
            {
                "id": "treemask",
                "title": "Tree mask",
                "members": ("trees",),
                "threshold": threshold,
                "classes": ({**trees, "value": 1}, other),
            },
        ),
        "training": {
            "command": "python tools/train_landcover.py --data DATA "
            + ("--more MORE " if options.more else "")
            + f"--model {options.model} "
            + recipe_words(options)
            + (f" --balance {options.balance:g}" if options.balance else "")
            + (f" --hold-out {options.hold_out}" if options.hold_out else ""),
            "method": "distillation on soft labels (Hinton et al. 2015), with "
            + (
                "the teacher's answers to changed images (Beyer et al. 2022)"
                if options.more
                else "radiometric jitter"
            ),
            "teacher": "Dynamic World forward model (google/dynamicworld, Apache-2.0)",
            "seed": options.seed,
        },
    }


if __name__ == "__main__":
    main()
