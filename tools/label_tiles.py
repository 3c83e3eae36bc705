"""Change training tiles as sensors and places could, and ask the teacher anew what they show.

    python tools/label_tiles.py --data DATA --teacher FOLDER --output MORE
    python tools/label_tiles.py --data DATA --teacher FOLDER --fit

Function matching (Beyer et al. 2022, doi:10.1109/CVPR52688.2022.01065): a student that sees the
teacher's answer to each changed image, and not its answer to the image as it was, learns what the
teacher does and not only what it said of a few places. FOLDER is a checkout of google/dynamicworld
(Apache-2.0). Needs tensorflow, rasterio and Pillow, in an environment of their own; our backend has
none of the first. MORE has the layout of DATA/s2: ``tools/train_landcover.py --more`` reads it.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

Image = NDArray[np.float32]
Teacher = Callable[[Image], Image]

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
EDGE = 24  # pixels; no farther than 20 does the teacher look
SEEN = [0, 1, 2, 3, 4, 5, 6, 8, 9]  # of those, by the teacher: it never saw B8A
WAVELENGTHS_UM = np.array([0.49, 0.56, 0.665, 0.705, 0.74, 0.783, 0.842, 0.865, 1.61, 2.19])

# 30th percentile and spread of log(1 + 0.005 x stored value), from the teacher's own notebook.
CENTRE = np.array([1.74173, 1.72612, 1.67983, 1.7735, 2.28915, 2.38294, 2.38289, 2.19525, 1.55481])
SPREAD = np.array([2.0233, 2.03891, 2.17959, 2.28901, 2.61717, 2.77342, 2.75783, 2.78909, 2.41405])

# The teacher reads Level-1C. Stored value at Level-1C = slope x Level-2A + offset: the lines that
# give back the labels that came with the Level-2A tiles (``--check`` shows how well); of B8A,
# which the labels do not hang on, the line of scenes that exist at both levels. ``--fit`` finds
# such lines anew, on training tiles alone.
SLOPE = np.array([0.5833, 0.6401, 0.7716, 0.7426, 0.7930, 0.8549, 0.8087, 0.8781, 0.8848, 0.8196])
OFFSET = np.array([798.27, 567.96, 340.74, 312.93, 336.28, 309.72, 265.06, 312.03, 69.16, 30.04])


def main() -> None:
    """Label changed tiles, check that the teacher says what the labels say, or fit lines."""
    options = _options()
    tiles = options.data / "s2"
    entries = json.loads((tiles / "index.json").read_text("utf-8"))
    training = [facts for facts in entries if facts["split"] == "train"]
    if options.check:
        check(load_teacher(options.teacher), tiles, entries)
    elif options.fit:
        fit(options.teacher, tiles, training, options)
    else:
        label(load_teacher(options.teacher), tiles, training, options)


def load_teacher(folder: Path) -> Teacher:
    """Return Dynamic World's forward model: (9, H, W) stored values to (9, H, W) probabilities."""
    import tensorflow as tf

    model = tf.saved_model.load(str(folder / "model" / "forward"))

    def probabilities(stored: Image) -> Image:
        scores = teacher_scores(model, tf.constant(stored.transpose(1, 2, 0), tf.float64))
        return tf.nn.softmax(scores).numpy().transpose(2, 0, 1)

    return probabilities


def teacher_scores(model: Any, stored: Any) -> Any:
    """Return the scores (H, W, 9) that a loaded model gives to stored values (H, W, 9) float64."""
    import tensorflow as tf

    values = tf.math.log1p(0.005 * tf.maximum(stored, 0))
    squashed = tf.sigmoid(5 * (values - CENTRE) / SPREAD - 1)
    return model(tf.cast(squashed, tf.float32)[None])[0]


def ask(teacher: Teacher, image: Image, level: str, edge: int = EDGE) -> Image:
    """Return the teacher's probabilities of (10, H, W) stored values at a level.

    It takes what is beyond the image for black; so the image is mirrored outwards by ``edge``.
    """
    if level == "L2A":
        image = image * SLOPE[:, None, None] + OFFSET[:, None, None]
    height, width = image.shape[1:]
    # The teacher halves the image: one of an odd size it would stretch a little, and which pixels
    # it sees as one would depend on where the tile ends.
    odd = (height % 2, width % 2) if edge else (0, 0)
    grow = ((0, 0), (edge, edge + odd[0]), (edge, edge + odd[1]))
    padded = np.pad(image[SEEN], grow, "reflect")
    return teacher(padded)[:, edge : edge + height, edge : edge + width]


def check(teacher: Teacher, folder: Path, entries: list[dict[str, Any]]) -> None:
    """Print by source and level how often the teacher says what the labels say."""
    right: dict[tuple[str, str], list[float]] = defaultdict(list)
    for facts in entries:
        image, label = read(folder, facts)
        valid = label.any(axis=0)
        said = ask(teacher, image, facts["level"], edge=0).argmax(axis=0)
        key = facts["source"], facts["teacher_input"]
        right[key].append(float((said == label.argmax(axis=0))[valid].mean()))
    for (source, how), shares in sorted(right.items()):
        print(f"{np.mean(shares):.4f}  {source}, {how}, {len(shares)} tiles")


def fit(
    folder: Path, tiles: Path, entries: list[dict[str, Any]], options: argparse.Namespace
) -> None:
    """Find the lines from Level-2A to Level-1C, and print them as ``SLOPE`` and ``OFFSET``.

    They begin as least squares over scenes that exist at both levels, and are then changed, by the
    gradient through the teacher, until it says what the labels of Level-2A tiles say.

    Args:
        folder: of the teacher.
        tiles: folder of the tiles.
        entries: of the index, those to learn from.
        options: ``steps`` of a tile each, and ``seed``.
    """
    import tensorflow as tf

    line = both_levels(tiles, entries)
    model = tf.saved_model.load(str(folder / "model" / "forward"))
    slope, offset = (tf.Variable(part[SEEN]) for part in (line[0], line[1] / 1000))
    mapped = [facts for facts in entries if facts["teacher_input"] == "L2A mapped to pseudo-TOA"]
    random = np.random.default_rng(options.seed)
    adam = tf.keras.optimizers.Adam(0.01)
    for step in range(options.steps):
        image, said = read(tiles, mapped[random.integers(len(mapped))])
        some = np.s_[:, :160, :160]  # a large scene does not count for more
        stored = tf.constant(image[SEEN][some].transpose(1, 2, 0), tf.float64)
        target = said[some].transpose(1, 2, 0).astype(np.float32)
        total = target.sum(axis=-1)
        target /= np.maximum(total, 1)[..., None]
        with tf.GradientTape() as tape:
            scores = teacher_scores(model, stored * slope + offset * 1000)
            losses = tf.nn.softmax_cross_entropy_with_logits(target, scores)
            loss = tf.reduce_sum(losses * (total > 0)) / max((total > 0).sum(), 1)
        adam.learning_rate = 0.01 * (1 - step / options.steps)
        variables = [slope, offset]
        adam.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    line[0, SEEN], line[1, SEEN] = slope.numpy(), offset.numpy() * 1000
    for name, numbers, digits in (("SLOPE", line[0], 4), ("OFFSET", line[1], 2)):
        print(f"{name} = np.array([{', '.join(f'{number:.{digits}f}' for number in numbers)}])")


def both_levels(tiles: Path, entries: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Return slope and offset of each band by least squares over scenes at both levels. (2, 10)."""
    files = {facts["file"]: facts for facts in entries}
    before, after = [], []
    for facts in entries:
        partner = facts["file"].replace("L2A", "L1C").replace("l2a", "l1c")
        if facts["level"] == "L2A" and partner != facts["file"] and partner in files:
            image, other = read(tiles, facts)[0], read(tiles, files[partner])[0]
            seen = image.any(axis=0) & other.any(axis=0)
            before.append(image[:, seen])
            after.append(other[:, seen])
    pairs = zip(np.concatenate(before, axis=1), np.concatenate(after, axis=1), strict=True)
    return np.stack([np.polyfit(band, other, 1) for band, other in pairs], axis=1)


def label(
    teacher: Teacher, folder: Path, entries: list[dict[str, Any]], options: argparse.Namespace
) -> None:
    """Write changed tiles, their labels and their index."""
    random = np.random.default_rng(options.seed)
    images = {}
    for facts in entries:
        image, said = read(folder, facts)
        images[facts["file"]] = image, said.any(axis=0)
    listed = []
    for number in range(options.passes):
        for facts in entries:
            image, valid = images[facts["file"]]
            level = facts["level"]
            if number:
                # Light of the other level would make them hard to tell apart, and light of another
                # source would show what a model that leaves it out must not have seen.
                kind = (facts["source"], level)
                alike = [one["file"] for one in entries if (one["source"], one["level"]) == kind]
                other = images[alike[random.integers(len(alike))]][0]
                image, valid, level = change(image, valid, level, other, random)
            probabilities = ask(teacher, image, level)
            name = f"{number}/{facts['file']}"
            write(options.output / name, image, probabilities, valid)
            kept = {key: facts[key] for key in ("source", "group", "split")}
            listed.append({"file": name, **kept, "level": level, "crs": None})
        (options.output / "index.json").write_text(json.dumps(listed, indent=0) + "\n")
        print(f"pass {number + 1} of {options.passes}", flush=True)


def change(
    image: Image, valid: NDArray[np.bool_], level: str, other: Image, random: np.random.Generator
) -> tuple[Image, NDArray[np.bool_], str]:
    """Change size, light, air, colours and level of a tile, each with a chance of its own.

    Args:
        image: (10, H, W) stored values.
        valid: (H, W), pixels with data.
        level: ``L1C`` or ``L2A``.
        other: another tile, whose range of values may be borrowed in part.
        random: source of chance.

    Returns:
        image, valid pixels and level after the change.
    """
    if random.random() < 0.5:
        image, valid = resize(image, valid, float(np.exp(random.uniform(-0.5, 0.5))))
    if random.random() < 0.3:
        image = borrow(image, other, random.uniform(0, 0.6))
    if random.random() < 0.8:
        image = relight(image, random)
    if random.random() < 0.4:
        slope, offset = SLOPE[:, None, None], OFFSET[:, None, None]
        image = image * slope + offset if level == "L2A" else (image - offset) / slope
        level = "L1C" if level == "L2A" else "L2A"
    return np.clip(image, 1, 20_000).round().astype(np.float32), valid, level


def resize(
    image: Image, valid: NDArray[np.bool_], factor: float
) -> tuple[Image, NDArray[np.bool_]]:
    """Resample a tile to finer or coarser pixels, to no fewer than 48 a side."""
    from PIL import Image as Picture

    height, width = (max(48, round(side * factor)) for side in valid.shape)
    bands = [
        np.asarray(Picture.fromarray(band).resize((width, height), Picture.Resampling.BICUBIC))
        for band in image
    ]
    mask = Picture.fromarray(valid.astype(np.float32)).resize((width, height))
    # Masks are blended as bands are, beyond 1 as well where there is an edge.
    return np.stack(bands), np.abs(np.asarray(mask) - 1) < 1e-3


def borrow(image: Image, other: Image, share: float) -> Image:
    """Move mean and spread of each band's logarithm part of the way to those of another tile."""
    own, theirs = np.log(np.maximum(image, 1)), np.log(np.maximum(other, 1))
    axes = (1, 2)
    mean, spread = own.mean(axes, keepdims=True), own.std(axes, keepdims=True)
    new_mean = mean + share * (theirs.mean(axes, keepdims=True) - mean)
    ratio = (theirs.std(axes, keepdims=True) + 0.02) / (spread + 0.02)
    return np.exp((own - mean) * np.clip(ratio, 0.5, 2) ** share + new_mean)


def relight(image: Image, random: np.random.Generator) -> Image:
    """Change gain, haze and offset: of all bands, and a little of each band alone."""
    count = len(BANDS)
    gain = np.exp(random.normal(0, 0.08) + random.normal(0, 0.03, count))
    haze = random.normal(0, 50) * (WAVELENGTHS_UM / 0.49) ** -random.uniform(0.5, 3)
    added = haze + random.normal(0, 15, count)
    return image * gain[:, None, None] + added[:, None, None]


def read(folder: Path, facts: dict[str, Any]) -> tuple[Image, NDArray[np.uint8]]:
    """Return (10, H, W) stored values and (9, H, W) labels as they came with the tile."""
    path = folder / facts["file"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as source:
            order = [source.descriptions.index(band) + 1 for band in BANDS]
            image = source.read(order).astype(np.float32)
        with rasterio.open(path.with_name(path.stem + ".teacher.tif")) as source:
            return image, source.read()


def write(path: Path, image: Image, probabilities: Image, valid: NDArray[np.bool_]) -> None:
    """Write a tile and its labels as ``read_tiles`` of the backend reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "height": valid.shape[0], "width": valid.shape[1],
               "compress": "zstd", "zstd_level": 1}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", count=len(BANDS), dtype="uint16", **profile) as target:
            target.write((image * valid).astype(np.uint16))
            target.descriptions = BANDS
        stored = (probabilities * 250).round() * valid
        path = path.with_name(path.stem + ".teacher.tif")
        with rasterio.open(path, "w", count=len(stored), dtype="uint8", **profile) as target:
            target.write(stored.astype(np.uint8))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds s2/")
    parser.add_argument("--teacher", type=Path, required=True, help="google/dynamicworld")
    parser.add_argument("--output", type=Path, help="folder of the changed tiles")
    parser.add_argument(
        "--passes", type=int, default=6, help="of all tiles; the first leaves them as they are"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="only compare with the given labels")
    parser.add_argument("--fit", action="store_true", help="only fit SLOPE and OFFSET")
    parser.add_argument("--steps", type=int, default=600, help="of --fit, a tile each")
    options = parser.parse_args()
    if not (options.check or options.fit or options.output):
        parser.error("--output, --check or --fit is needed")
    return options


if __name__ == "__main__":
    main()
