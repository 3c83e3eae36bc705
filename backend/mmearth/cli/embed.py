"""``mmearth embed``: features of an encoder as a raster."""

from __future__ import annotations

import argparse

from mmearth.api import EmbedOutputs, EmbedSpec
from mmearth.cli.mapping import add_mapping_options, full_path, mapping_fields, print_plan
from mmearth.cli.progress import EXIT_ERROR, follow, print_warnings
from mmearth.settings import Settings


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
    from mmearth.jobs import embed

    settings = Settings()
    spec = EmbedSpec(
        **mapping_fields(options),
        stride=options.stride,
        outputs=EmbedOutputs(features=full_path(options.output), view=full_path(options.view)),
    )
    if options.plan:
        plan = embed.plan(spec, settings)
        print_plan(plan)
        return 0 if plan.ready else EXIT_ERROR
    result = follow(lambda context: embed.run(spec, context), settings)
    print_warnings(result.warnings)
    grid = result.grid
    print(f"{result.features} features, {grid.width} x {grid.height} pixels of {grid.pixel_m:g} m")
    if result.explained:
        shares = ", ".join(f"{share:.0%}" for share in result.explained)
        print(f"Share of their variance in red, green and blue: {shares}")
    for name, path in result.outputs.model_dump().items():
        if path:
            print(f"{name}: {path}")
    return 0
