"""``mmearth embed``: features of an encoder as a raster."""

from __future__ import annotations

import argparse

from mmearth.api import EmbedOutputs, EmbedResult, EmbedSpec
from mmearth.cli.mapping import add_mapping_options, full_path, mapping_fields, plan_or_run


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    embed = commands.add_parser("embed", help="compute the features of a model's encoder")
    add_mapping_options(embed)
    embed.add_argument("--output", required=True, help="features, a band each (GeoTIFF)")
    embed.add_argument("--view", help="picture of their principal components (GeoTIFF)")
    embed.add_argument(
        "--stride",
        type=int,
        help="pixels of the rasters along a side of a pixel of features; default: 4 of a model "
        "that maps classes, the coarsest of an encoder",
    )
    embed.set_defaults(run=_embed)


def _embed(options: argparse.Namespace) -> int:
    spec = EmbedSpec(
        **mapping_fields(options),
        stride=options.stride,
        outputs=EmbedOutputs(features=full_path(options.output), view=full_path(options.view)),
    )
    return plan_or_run(spec, _show, only_plan=options.plan)


def _show(result: EmbedResult) -> None:
    grid = result.grid
    print(f"{result.features} features, {grid.width} x {grid.height} pixels of {grid.pixel_m:g} m")
    if result.explained:
        shares = ", ".join(f"{100 * share:.0f} %" for share in result.explained)
        print(f"Share of their variance in red, green and blue: {shares}")
