"""``mmearth segment``: map the classes of a model."""

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


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    segment = commands.add_parser("segment", help="map the classes of a model over rasters")
    add_mapping_options(segment)
    segment.add_argument("--product", help="product of the model; default: its first")
    segment.add_argument("--output", required=True, help="class map (GeoTIFF)")
    segment.add_argument("--probabilities", help="probability of each class (GeoTIFF)")
    segment.add_argument("--confidence", help="probability of the mapped class (GeoTIFF)")
    segment.add_argument("--polygons", help="mapped areas (GeoPackage)")
    segment.add_argument("--table", help="area of each class (CSV)")
    segment.add_argument(
        "--minimum-area", type=float, default=0.0, metavar="HA", help="of polygons, in hectares"
    )
    segment.add_argument(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="compute on the workers of this Dask cluster, which see the rasters under the same "
        "paths and have the model installed; default: on this machine",
    )
    segment.set_defaults(run=_segment)


def _segment(options: argparse.Namespace) -> int:
    return plan_or_run(_spec(options), _show, only_plan=options.plan)


def _show(result: SegmentResult) -> None:
    for row in result.classes:
        print(f"{row.title:<24} {row.hectares:>14,.2f} ha {row.percent:>6.2f} %")
    print_masked(result.masked_pixels)


def _spec(options: argparse.Namespace) -> SegmentSpec:
    return SegmentSpec(
        **mapping_fields(options),
        product=options.product,
        outputs=SegmentOutputs(
            classes=full_path(options.output),
            probabilities=full_path(options.probabilities),
            confidence=full_path(options.confidence),
            polygons=full_path(options.polygons),
            table=full_path(options.table),
        ),
        minimum_area_ha=options.minimum_area,
        scheduler=options.scheduler,
    )
