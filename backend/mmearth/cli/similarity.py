"""``mmearth similarity``: how alike each pixel is to chosen places."""

from __future__ import annotations

import argparse

from mmearth.api import SimilarityOutputs, SimilarityResult, SimilaritySpec
from mmearth.cli.mapping import full_path, plan_or_run
from mmearth.errors import counted


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    similarity = commands.add_parser(
        "similarity", help="tell how alike each pixel is to chosen places"
    )
    similarity.add_argument("features", metavar="FEATURES", help="raster that 'embed' has made")
    similarity.add_argument(
        "--references", required=True, metavar="FILE", help="points or polygons (any vector file)"
    )
    similarity.add_argument("--layer", help="layer of the vector file; default: its first")
    similarity.add_argument("--output", required=True, help="cosine from -1 to 1 (GeoTIFF)")
    similarity.set_defaults(run=_similarity)


def _similarity(options: argparse.Namespace) -> int:
    spec = SimilaritySpec(
        features=options.features,
        references=options.references,
        layer=options.layer,
        outputs=SimilarityOutputs(similarity=str(full_path(options.output))),
    )
    return plan_or_run(spec, _show)


def _show(result: SimilarityResult) -> None:
    print(f"{counted(result.references, 'place')} of {counted(result.reference_pixels, 'pixel')}")
