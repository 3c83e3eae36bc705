"""``mmearth views``: cut overlapping scenes into patches of several dates."""

from __future__ import annotations

import argparse

from mmearth.api import ViewsOutputs, ViewsResult, ViewsSpec
from mmearth.cli.mapping import full_path, plan_or_run
from mmearth.errors import counted

DEFAULTS = ViewsSpec.model_fields


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    views = commands.add_parser(
        "views", help="cut overlapping scenes into patches of several dates"
    )
    views.add_argument("scenes", metavar="FOLDER", help="folder of the scenes")
    views.add_argument("--output", required=True, metavar="FOLDER", help="new, of the patches")
    views.add_argument("--plan", action="store_true", help="only say what would be done")
    for name, words in (
        ("images", "names of the scenes' files, with one '*'"),
        ("masks", "names of their cloud masks, '*' for the same text"),
    ):
        views.add_argument(f"--{name}", default=DEFAULTS[name].default, help=_help(name, words))
    for name, kind, words in (
        ("size", int, "side of a patch in pixels"),
        ("step", int, "pixels between positions that are tried; divides the side"),
        ("least-dates", int, "dates that a place has at least"),
        ("minimum-valid", float, "share of a patch's pixels that must have data"),
        ("clouds", float, "largest share of a patch's pixels under clouds"),
        ("validation", float, "share of the patches of the part 'val'"),
    ):
        default = DEFAULTS[name.replace("-", "_")].default
        views.add_argument(f"--{name}", type=kind, default=default, help=_help(name, words))
    views.add_argument(
        "--block", dest="block_km", type=float, metavar="KM", default=DEFAULTS["block_km"].default,
        help=_help("block_km", "side of blocks of ground that are in one part as a whole"),
    )  # fmt: skip
    views.set_defaults(run=_views)


def _help(name: str, words: str) -> str:
    default = DEFAULTS[name.replace("-", "_")].default
    return f"{words}; default: {default}" if default != "" else words


def _views(options: argparse.Namespace) -> int:
    names = set(ViewsSpec.model_fields) - {"kind", "scenes", "outputs"}
    spec = ViewsSpec(
        scenes=str(full_path(options.scenes)),
        outputs=ViewsOutputs(folder=str(full_path(options.output))),
        **{name: getattr(options, name) for name in names},
    )
    return plan_or_run(spec, _show, only_plan=options.plan, keeps=True)


def _show(result: ViewsResult) -> None:
    places = sum(result.places.values())
    parts = ", ".join(f"{count:,} {part}" for part, count in result.parts.items() if count)
    print(f"{counted(places, 'place')} in {counted(result.scenes, 'scene')}")
    for dates, count in result.places.items():
        print(f"{counted(dates, 'date')}: {counted(count, 'place')}")
    print(f"Patches: {parts}")
