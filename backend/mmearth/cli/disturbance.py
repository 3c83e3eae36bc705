"""``mmearth disturbance``: where forest was lost or gained between two dates."""

from __future__ import annotations

import argparse

from mmearth.api import (
    DateScene,
    DisturbanceOutputs,
    DisturbanceResult,
    DisturbanceSpec,
)
from mmearth.cli.mapping import (
    add_scene_options,
    extent_of,
    full_path,
    plan_or_run,
    refuse_rule_alone,
    scene_fields,
)
from mmearth.errors import InputError, counted


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    disturbance = commands.add_parser(
        "disturbance", help="map where forest was lost or gained between two dates"
    )
    disturbance.add_argument(
        "--before", nargs="+", required=True, metavar="RASTER", help="first date; sets the grid"
    )
    disturbance.add_argument(
        "--after", nargs="+", required=True, metavar="RASTER", help="last date"
    )
    disturbance.add_argument(
        "--between", nargs="+", action="append", default=[], metavar="RASTER",
        help="a date in between; repeatable, in order",
    )  # fmt: skip
    disturbance.add_argument("--model", required=True, help="identifier, see 'mmearth models'")
    disturbance.add_argument(
        "--mask-before", metavar="RASTER", help="leave out clouds of the first date by it"
    )
    disturbance.add_argument(
        "--mask-after", metavar="RASTER", help="leave out clouds of the last date by it"
    )
    disturbance.add_argument(
        "--mask-between", action="append", default=[], metavar="RASTER",
        help="leave out clouds of a date in between by it; one for each, in order",
    )  # fmt: skip
    add_scene_options(disturbance)
    disturbance.add_argument("--output", required=True, help="map of the change (GeoTIFF)")
    disturbance.add_argument("--probability", help="probability of a change (GeoTIFF)")
    disturbance.add_argument("--polygons", help="areas of change, possible ones too (GeoPackage)")
    disturbance.add_argument("--table", help="area of each class (CSV)")
    disturbance.add_argument("--transitions", help="forest before and after, in hectares (CSV)")
    disturbance.add_argument(
        "--minimum-area", type=float, default=0.0, metavar="HA", help="of polygons, in hectares"
    )
    disturbance.set_defaults(run=_disturbance)


def _disturbance(options: argparse.Namespace) -> int:
    return plan_or_run(_spec(options), _show, only_plan=options.plan)


def _show(result: DisturbanceResult) -> None:
    for date in result.dates:
        masked = counted(date.masked_pixels, "pixel")
        print(
            f"{date.role}: {date.title} ({masked} left out by a mask, "
            f"{date.nodata_pixels:,} without data)"
        )
    for row in result.classes:
        print(f"{row.title:<24} {row.hectares:>14,.2f} ha {row.percent:>6.2f} %")


def _spec(options: argparse.Namespace) -> DisturbanceSpec:
    refuse_rule_alone(options, options.mask_before, options.mask_after, *options.mask_between)
    masks = options.mask_between or [None] * len(options.between)
    if len(masks) != len(options.between):
        raise InputError(
            f"Expected a mask for each of the {counted(len(options.between), 'date')} in between, "
            f"found {len(masks)}.",
            "Give --mask-between as often as --between.",
        )
    between = [
        DateScene(**scene_fields(options, rasters, mask))
        for rasters, mask in zip(options.between, masks, strict=True)
    ]
    return DisturbanceSpec(
        before=DateScene(**scene_fields(options, options.before, options.mask_before)),
        after=DateScene(**scene_fields(options, options.after, options.mask_after)),
        between=between,
        model=options.model,
        extent=extent_of(options),
        tile_size=options.tile,
        minimum_area_ha=options.minimum_area,
        outputs=DisturbanceOutputs(
            classes=full_path(options.output),
            probability=full_path(options.probability),
            polygons=full_path(options.polygons),
            table=full_path(options.table),
            transitions=full_path(options.transitions),
        ),
    )
