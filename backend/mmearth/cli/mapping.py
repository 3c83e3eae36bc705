"""What the commands share that work on rasters: their options, and running their jobs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmearth.api import BandChoice, Extent, JobSpec, MaskInput, Plan, Radiometry, RasterInput
from mmearth.cli.progress import EXIT_ERROR, follow, print_warnings
from mmearth.errors import InputError, counted
from mmearth.jobs.registry import plan_job, run_job
from mmearth.settings import Settings


def add_mapping_options(parser: argparse.ArgumentParser, *, any_model: bool = False) -> None:
    """Add rasters, model, area, bands, radiometry, mask and tile size.

    Args:
        parser: of the command.
        any_model: whether the model may be left open.
    """
    parser.add_argument("inputs", nargs="+", metavar="RASTER", help="file or .SAFE folder")
    default = "; default: the one that suits the rasters" if any_model else ""
    parser.add_argument(
        "--model", required=not any_model, help=f"identifier, see 'mmearth models'{default}"
    )
    parser.add_argument("--mask", metavar="RASTER", help="leave out clouds and bad pixels by it")
    add_scene_options(parser)


def add_scene_options(parser: argparse.ArgumentParser) -> None:
    """Add area, bands, radiometry, what a mask means, and tile size."""
    parser.add_argument(
        "--extent",
        nargs=5,
        metavar=("XMIN", "YMIN", "XMAX", "YMAX", "CRS"),
        help="area to map; default: all that the rasters share",
    )
    parser.add_argument(
        "--band",
        action="append",
        default=[],
        metavar="NAME=RASTER:BAND",
        help="take a model band from band BAND of the RASTER-th raster, both from 1; repeatable",
    )
    parser.add_argument("--scale", type=float, help="reflectance = value x SCALE + OFFSET")
    parser.add_argument(
        "--offset", type=float, help="without --scale: in place of the offset that the file states"
    )
    parser.add_argument("--mask-band", type=int, metavar="BAND", help="of the mask, from 1")
    rules = parser.add_mutually_exclusive_group()
    rules.add_argument(
        "--mask-values", type=int, nargs="+", metavar="VALUE", help="leave out pixels of these; "
        "default: clouds, shadows and defects of a band named SCL, of others all but 0",
    )  # fmt: skip
    rules.add_argument(
        "--mask-above", type=float, metavar="VALUE", help="leave out pixels with more"
    )
    rules.add_argument(
        "--mask-bits", type=int, nargs="+", metavar="BIT", help="leave out pixels with one of them"
    )
    parser.add_argument(
        "--keep-clouds", action="store_true", help="do not look for a scene classification (SCL)"
    )
    parser.add_argument("--tile", type=int, help="tile size in pixels; default: the model's")
    parser.add_argument("--plan", action="store_true", help="only say what would be done")


def mapping_fields(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of ``MappingSpec`` that the options give.

    Raises:
        InputError: if an option has a value that it may not have.
    """
    refuse_rule_alone(options, options.mask)
    return {
        **scene_fields(options, options.inputs, options.mask),
        "model": options.model,
        "extent": extent_of(options),
        "tile_size": options.tile,
    }


def extent_of(options: argparse.Namespace) -> Extent | None:
    """Return the area to map; None for all of it.

    Raises:
        InputError: if a bound is no number.
    """
    if not options.extent:
        return None
    *bounds, crs = options.extent
    return Extent(bounds=tuple(_number(text, "--extent") for text in bounds), crs=crs)


def scene_fields(
    options: argparse.Namespace, rasters: list[str], mask: str | None
) -> dict[str, Any]:
    """Return the fields of ``Scene`` that the options give.

    Args:
        options: of the command.
        rasters: of the scene.
        mask: of the scene, if any.

    Raises:
        InputError: if an option has a value that it may not have.
    """
    masks = []
    if mask:
        masks = [
            MaskInput(
                path=mask,
                band=options.mask_band,
                values=options.mask_values,
                above=options.mask_above,
                bits=options.mask_bits,
            )
        ]
    return {
        "inputs": [RasterInput(path=path) for path in rasters],
        "bands": [_band(text) for text in options.band],
        "radiometry": _radiometry(options),
        "masks": masks,
        "scene_classification": "ignore" if options.keep_clouds else "use",
    }


def refuse_rule_alone(options: argparse.Namespace, *masks: str | None) -> None:
    """Check that there is a mask if something is said of it.

    Args:
        options: of the command.
        masks: all that are given.

    Raises:
        InputError: if there is none.
    """
    for name in ("band", "values", "above", "bits"):
        if getattr(options, f"mask_{name}") is not None and not any(masks):
            raise InputError(
                f"--mask-{name} speaks of a mask, and none is given.",
                "Name the mask too, or leave this option out.",
            )


def full_path(path: str | None) -> str | None:
    """Return the whole path of a result, as a request needs it."""
    return str(Path(path).resolve()) if path else None


def print_plan(plan: Plan) -> None:
    """Print what a job would do."""
    for match in plan.bands:
        source = match.source.title if match.source else "-"
        print(f"{match.band:<5} {match.state.value:<10} {source} {match.reason}".rstrip())
    if plan.grid:
        print(
            f"{plan.grid.width} x {plan.grid.height} pixels of {plan.grid.pixel_m:g} m, "
            f"{counted(plan.tiles, 'tile')}, about {plan.seconds or 0:,.0f} s, "
            f"{plan.memory_bytes / 2**30:.1f} GB of memory"
        )
    elif plan.tiles:
        print(f"At most {counted(plan.tiles, 'tile')}")
    for row in plan.labels:
        print(f"{row.title:<24} {row.units:>6,} labels {row.pixels:>10,} pixels")
    for cell in plan.cells:
        print(cell)
    if plan.cells:
        print(counted(len(plan.cells), "cell"))
    for warning in plan.warnings:
        print(f"Warning: {warning.message} {warning.advice}")
    for error in plan.errors:
        print(f"Error: {error.message} {error.advice}")


def print_masked(pixels: int) -> None:
    """Print how much a mask of clouds has left out, if any."""
    if pixels:
        print(f"Left out by a mask: {counted(pixels, 'pixel')}")


def plan_or_run(
    spec: JobSpec, show: Callable[[Any], None], *, only_plan: bool = False, keeps: bool = False
) -> int:
    """Run a job, or only say what it would do.

    Args:
        spec: what is asked for.
        show: prints what is worth knowing of the result; its files are told here.
        only_plan: run nothing.
        keeps: see ``follow``.

    Returns:
        The exit status.

    Raises:
        MMEarthError: whatever stands in its way.
    """
    settings = Settings()
    if only_plan:
        plan = plan_job(spec, settings)
        print_plan(plan)
        return 0 if plan.ready else EXIT_ERROR
    result: Any = follow(lambda context: run_job(spec, context), settings, keeps=keeps)
    print_warnings(result.warnings)
    show(result)
    for name, path in result.outputs.model_dump().items():
        if path:
            print(f"{name}: {path}")
    return 0


def _radiometry(options: argparse.Namespace) -> Radiometry | None:
    if options.scale is None and options.offset is None:
        return None
    return Radiometry(scale=options.scale, offset=options.offset or 0.0)


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option}: {text!r} is no number.") from None


def _band(text: str) -> BandChoice:
    name, _, place = text.partition("=")
    raster, _, band = place.partition(":")
    try:
        return BandChoice(band=name, input=int(raster) - 1, index=int(band))
    except ValueError:
        raise InputError(f"--band: expected NAME=RASTER:BAND, found {text!r}.") from None
