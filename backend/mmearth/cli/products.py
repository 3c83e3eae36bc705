"""``mmearth landcover``, ``treemask`` and ``treedensity``: products of one date, by name."""

from __future__ import annotations

import argparse

from mmearth.api import SegmentOutputs, SegmentResult, SegmentSpec
from mmearth.cli.mapping import (
    add_mapping_options,
    full_path,
    mapping_fields,
    plan_or_run,
    print_masked,
)
from mmearth.errors import InputError
from mmearth.jobs.choose import choose_model
from mmearth.settings import Settings

# Product of a model, what is written to --output, and what it is called.
PRODUCTS = {
    "landcover": ("landcover", "classes", "map land cover"),
    "treemask": ("treemask", "classes", "map trees and everything else"),
    "treedensity": ("treemask", "density", "map tree cover in percent"),
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    for name, (_, _, words) in PRODUCTS.items():
        command = commands.add_parser(name, help=words)
        add_mapping_options(command, any_model=True)
        if name == "treedensity":
            command.add_argument("--output", required=True, help="cover of each pixel (GeoTIFF)")
            command.add_argument("--cells", help="mean cover of each cell (GeoTIFF)")
            command.add_argument(
                "--cell", type=float, metavar="M", help="side of a cell in metres; default: 100"
            )
        else:
            command.add_argument("--output", required=True, help="map (GeoTIFF)")
            command.add_argument("--confidence", help="probability of the mapped class (GeoTIFF)")
            command.add_argument("--polygons", help="mapped areas (GeoPackage)")
            command.add_argument("--minimum-area", type=float, metavar="HA", help="of polygons")
        command.add_argument("--table", help="areas (CSV)")
        command.set_defaults(run=_run, command=name)


def _run(options: argparse.Namespace) -> int:
    spec = _spec(options)
    if not options.model:
        spec = choose_model(spec, Settings())
    return plan_or_run(spec, _show, only_plan=options.plan)


def _spec(options: argparse.Namespace) -> SegmentSpec:
    given = vars(options)
    if given.get("cell") is not None and not given.get("cells"):
        raise InputError("--cell says how large cells are, but none are made.", "Give --cells too.")
    product, main, _ = PRODUCTS[options.command]
    files = {
        main: options.output,
        "density_cells": given.get("cells"),
        "confidence": given.get("confidence"),
        "polygons": given.get("polygons"),
        "table": options.table,
    }
    numbers = {"cell_m": given.get("cell"), "minimum_area_ha": given.get("minimum_area")}
    return SegmentSpec(
        **{**mapping_fields(options), "model": options.model or ""},
        product=product,
        outputs=SegmentOutputs(**{name: full_path(path) for name, path in files.items()}),
        **{name: number for name, number in numbers.items() if number is not None},
    )


def _show(result: SegmentResult) -> None:
    print(f"Model: {result.model_title}")
    for row in result.classes:
        hectares, percent = row.hectares, row.percent
        if row.cover_hectares is not None and row.cover_percent is not None:
            hectares, percent = row.cover_hectares, row.cover_percent
        print(f"{row.title:<24} {hectares:>14,.2f} ha {percent:>6.2f} %")
    print_masked(result.masked_pixels)
