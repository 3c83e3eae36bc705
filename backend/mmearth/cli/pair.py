"""``mmearth pair``: make data for pretraining of one's own rasters."""

from __future__ import annotations

import argparse
from typing import Any

from mmearth.api import (
    PairImage,
    PairModality,
    PairOutputs,
    PairRaster,
    PairResult,
    PairSpec,
    RasterInput,
)
from mmearth.cli.mapping import extent_of, full_path, plan_or_run
from mmearth.errors import InputError, counted

DEFAULTS = PairSpec.model_fields


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    pair = commands.add_parser("pair", help="make data for pretraining of your own rasters")
    pair.add_argument(
        "--image", action="append", required=True, metavar="[DATE=]RASTER[,RASTER]",
        help="an image: file, several files of its bands, or .SAFE folder; its date as "
        "2024-06-30; repeatable",
    )  # fmt: skip
    pair.add_argument("--output", required=True, metavar="FOLDER", help="of the data set")
    pair.add_argument("--sensor", default=DEFAULTS["sensor"].default, help="of the images")
    pair.add_argument("--level", default="", help="of the images, such as L2A")
    pair.add_argument("--bands", default="", help="names of bands, with commas between them")
    for name, words in (("measured", "measured"), ("classes", "in classes; needs --codes")):
        pair.add_argument(
            f"--{name}", action="append", default=[], metavar="NAME[@DATE]=RASTER[,RASTER]",
            help=f"what else is known, {words}; repeatable, for further dates too",
        )  # fmt: skip
    pair.add_argument(
        "--codes", action="append", default=[], metavar="NAME=CODE,CODE", help="of its classes"
    )
    pair.add_argument(
        "--nodata", action="append", default=[], metavar="NAME=VALUE",
        help="value without data, if the files do not say it",
    )  # fmt: skip
    pair.add_argument(
        "--extent", nargs=5, metavar=("XMIN", "YMIN", "XMAX", "YMAX", "CRS"),
        help="area; default: all of the images",
    )  # fmt: skip
    pair.add_argument(
        "--strata",
        metavar="RASTER",
        help="map; of each of its classes equally many places are drawn",
    )
    for name, kind, words in (
        ("size", int, "side of a tile in pixels"),
        ("count", int, "places to draw; default: all"),
        ("seed", int, "of all that is drawn at random"),
        ("minimum-valid", float, "share of a tile's pixels that must have data"),
        ("validation", float, "share of the tiles of the part 'val'"),
        ("test", float, "share of the tiles of the part 'test'"),
    ):
        default = DEFAULTS[name.replace("-", "_")].default
        told = words if default is None else f"{words}; default: {default}"
        pair.add_argument(f"--{name}", type=kind, default=default, help=told)
    pair.add_argument(
        "--block", type=float, default=DEFAULTS["block_km"].default, metavar="KM",
        help="side of blocks of ground that are in one part as a whole; default: %(default)s",
    )  # fmt: skip
    pair.add_argument("--plan", action="store_true", help="only say what would be done")
    pair.set_defaults(run=_pair)


def _pair(options: argparse.Namespace) -> int:
    spec = PairSpec(
        sensor=options.sensor,
        bands=_listed(options.bands),
        images=[_image(text, options.level) for text in options.image],
        modalities=_modalities(options),
        extent=extent_of(options),
        strata=options.strata,
        size=options.size,
        count=options.count,
        minimum_valid=options.minimum_valid,
        block_km=options.block,
        validation=options.validation,
        test=options.test,
        seed=options.seed,
        outputs=PairOutputs(folder=str(full_path(options.output))),
    )
    return plan_or_run(spec, _show, only_plan=options.plan, keeps=True)


def _image(text: str, level: str) -> PairImage:
    date, equals, rasters = text.partition("=")
    if not equals:
        date, rasters = "", text
    inputs = [RasterInput(path=path) for path in _listed(rasters)]
    return PairImage.model_validate({"inputs": inputs, "date": date or None, "level": level})


def _modalities(options: argparse.Namespace) -> list[PairModality]:
    """Return the modalities; what is said of one name is put together.

    Raises:
        InputError: if an option cannot be read, or says something of a name that is not there.
    """
    rows: dict[str, dict[str, Any]] = {}
    for option, kind in (("measured", "continuous"), ("classes", "categorical")):
        for text in getattr(options, option):
            told, rasters = _divided(text, f"--{option}")
            name, _, date = told.partition("@")
            row = rows.setdefault(name, {"name": name, "kind": kind, "rasters": []})
            if row["kind"] != kind:
                raise InputError(f"{name} is measured or in classes, not both.", "Choose one.")
            row["rasters"] += [
                PairRaster.model_validate({"path": path, "date": date or None})
                for path in _listed(rasters)
            ]
    for option in ("codes", "nodata"):
        for text in getattr(options, option):
            name, value = _divided(text, f"--{option}")
            if name not in rows:
                raise InputError(
                    f"--{option} speaks of {name}, which no option names.",
                    "Name its rasters with --measured or --classes.",
                )
            rows[name][option] = _listed(value) if option == "codes" else value
    return [PairModality.model_validate(row) for row in rows.values()]


def _divided(text: str, option: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise InputError(f"{option}: expected NAME=..., found {text!r}.")
    return name, value


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _show(result: PairResult) -> None:
    parts = ", ".join(f"{count:,} {part}" for part, count in result.parts.items() if count)
    print(f"{counted(result.tiles, 'tile')} of {counted(result.places, 'place')}: {parts}")
    for name, share in result.known.items():
        print(f"{name}: {share:.1%} of the pixels")
    print("To learn from them: mmearth pretrain --dataset mmearth-h5 --data FOLDER")
