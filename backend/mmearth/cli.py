"""The command line: what the plugin does by clicking, for scripts and servers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from mmearth import __version__
from mmearth.api import (
    BandChoice,
    Extent,
    Plan,
    Radiometry,
    RasterInput,
    SegmentOutputs,
    SegmentSpec,
)
from mmearth.errors import InputError, JobCancelled, MMEarthError
from mmearth.settings import Settings

EXIT_ERROR = 1
EXIT_CANCELLED = 130
# Options that are called otherwise than the field of the request that they fill.
_OPTIONS = {
    "scale": "--scale",
    "offset": "--offset",
    "minimum_area_ha": "--minimum-area",
    "tile_size": "--tile",
    "bounds": "--extent",
    "index": "--band",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except JobCancelled:
        print("Cancelled.", file=sys.stderr)
        return EXIT_CANCELLED
    except MMEarthError as error:
        print(f"mmearth: {error}", file=sys.stderr)
        return EXIT_ERROR
    except ValidationError as error:
        print(f"mmearth: {_invalid(error)}", file=sys.stderr)
        return EXIT_ERROR


def _invalid(error: ValidationError) -> str:
    """Put in words which option or environment variable has a value that it may not have."""
    settings = error.title == Settings.__name__
    words = []
    for item in error.errors():
        name = "_".join(str(part) for part in item["loc"])
        known = f"MMEARTH_{name.upper()}" if settings else _OPTIONS.get(name, name)
        words.append(f"{known}: {item['msg']}, found {item['input']!r}.")
    return " ".join(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmearth", description="Land-cover and forest maps from satellite images."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_segment(commands)
    _add_models(commands)
    doctor = commands.add_parser("doctor", help="check the installation")
    doctor.set_defaults(run=_doctor)
    serve = commands.add_parser("serve", help="run the service that the plugin talks to")
    serve.add_argument("--parent-pid", type=int, help="end when this process does")
    serve.add_argument(
        "--keep-running", action="store_true", help="do not end when standard input does"
    )
    serve.set_defaults(run=_serve)
    return parser


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    models = commands.add_parser("models", help="list the installed models, or import one")
    models.add_argument("--json", action="store_true", help="print everything, as JSON")
    models.set_defaults(run=_models)
    actions = models.add_subparsers(title="actions", metavar="ACTION")
    published = actions.add_parser("published", help="list published encoders")
    published.set_defaults(run=_published)
    imports = actions.add_parser("import", help="install a published encoder from its file")
    imports.add_argument("file", type=Path, help=".pth or .safetensors, as published")
    imports.add_argument("--as", dest="model", required=True, help="which one, see 'published'")
    imports.add_argument("--level", help="processing level of your images; default: its first")
    imports.set_defaults(run=_import)


def _add_segment(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    segment = commands.add_parser("segment", help="map the classes of a model over rasters")
    segment.add_argument("inputs", nargs="+", metavar="RASTER", help="file or .SAFE folder")
    segment.add_argument("--model", required=True, help="identifier, see 'mmearth models'")
    segment.add_argument("--product", help="product of the model; default: its first")
    segment.add_argument("--output", required=True, help="class map (GeoTIFF)")
    segment.add_argument("--probabilities", help="probability of each class (GeoTIFF)")
    segment.add_argument("--confidence", help="probability of the mapped class (GeoTIFF)")
    segment.add_argument("--polygons", help="mapped areas (GeoPackage)")
    segment.add_argument("--table", help="area of each class (CSV)")
    segment.add_argument(
        "--extent",
        nargs=5,
        metavar=("XMIN", "YMIN", "XMAX", "YMAX", "CRS"),
        help="area to map; default: all that the rasters share",
    )
    segment.add_argument(
        "--band",
        action="append",
        default=[],
        metavar="NAME=RASTER:BAND",
        help="take a model band from band BAND of the RASTER-th raster, both from 1; repeatable",
    )
    segment.add_argument("--scale", type=float, help="reflectance = value x SCALE + OFFSET")
    segment.add_argument(
        "--offset", type=float, help="without --scale: in place of the offset that the file states"
    )
    segment.add_argument(
        "--minimum-area", type=float, default=0.0, metavar="HA", help="of polygons, in hectares"
    )
    segment.add_argument("--tile", type=int, help="tile size in pixels; default: the model's")
    segment.add_argument("--plan", action="store_true", help="only say what would be done")
    segment.set_defaults(run=_segment)


def _segment(options: argparse.Namespace) -> int:
    from mmearth.jobs.context import JobContext
    from mmearth.jobs.registry import plan_job, run_job

    settings = Settings()
    spec = _spec(options)
    if options.plan:
        plan = plan_job(spec, settings)
        _print_plan(plan)
        return 0 if plan.ready else EXIT_ERROR
    try:
        result = run_job(spec, JobContext(settings, _Progress()))
    except KeyboardInterrupt:
        raise JobCancelled("Cancelled.") from None
    finally:
        _Progress.end()
    for warning in result.warnings:
        print(f"Warning: {warning.message} {warning.advice}", file=sys.stderr)
    for row in result.classes:
        print(f"{row.title:<24} {row.hectares:>14,.2f} ha {row.percent:>6.2f} %")
    for name, path in result.outputs.model_dump().items():
        if path:
            print(f"{name}: {path}")
    return 0


def _spec(options: argparse.Namespace) -> SegmentSpec:
    def full(path: str | None) -> str | None:
        return str(Path(path).resolve()) if path else None

    extent = None
    if options.extent:
        *bounds, crs = options.extent
        extent = Extent(bounds=tuple(_number(text, "--extent") for text in bounds), crs=crs)
    return SegmentSpec(
        inputs=[RasterInput(path=path) for path in options.inputs],
        model=options.model,
        product=options.product,
        extent=extent,
        bands=[_band(text) for text in options.band],
        radiometry=_radiometry(options),
        outputs=SegmentOutputs(
            classes=full(options.output),
            probabilities=full(options.probabilities),
            confidence=full(options.confidence),
            polygons=full(options.polygons),
            table=full(options.table),
        ),
        minimum_area_ha=options.minimum_area,
        tile_size=options.tile,
    )


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


class _Progress:
    """One line on the terminal that is written over; silent if there is no terminal."""

    def __call__(self, progress: float, stage: str, eta: float | None) -> None:
        if sys.stderr.isatty():
            left = f", {eta:,.0f} s left" if eta is not None else ""
            print(f"\r{progress:4.0%} {stage}{left}\033[K", end="", file=sys.stderr, flush=True)

    @staticmethod
    def end() -> None:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _print_plan(plan: Plan) -> None:
    for match in plan.bands:
        source = match.source.title if match.source else "-"
        print(f"{match.band:<5} {match.state.value:<10} {source} {match.reason}".rstrip())
    if plan.grid:
        print(
            f"{plan.grid.width} x {plan.grid.height} pixels of {plan.grid.pixel_m:g} m, "
            f"{plan.tiles} tiles, about {plan.seconds or 0:,.0f} s, "
            f"{plan.memory_bytes / 2**30:.1f} GB of memory"
        )
    for warning in plan.warnings:
        print(f"Warning: {warning.message} {warning.advice}")
    for error in plan.errors:
        print(f"Error: {error.message} {error.advice}")


def _models(options: argparse.Namespace) -> int:
    from mmearth.models.registry import installed_models

    cards = installed_models(Settings().model_folders)
    if options.json:
        print(json.dumps([card.info().model_dump() for card in cards], indent=1))
        return 0
    for card in cards:
        print(f"{card.id}  {card.title} ({card.version})")
        print(f"    {card.purpose}; bands {' '.join(card.bands)} at {card.resolution_m:g} m")
        print(f"    {card.licence}")
    if not cards:
        print("No models are installed.")
    return 0


def _published(_options: argparse.Namespace) -> int:
    from mmearth.models.published import published_models

    for model in published_models():
        print(f"{model.id}  {model.title}")
        print(f"    level {' or '.join(model.levels)}; {len(model.bands)} bands; {model.licence}")
        print(f"    {model.url or f'{model.file} from {model.page}'}")
    return 0


def _import(options: argparse.Namespace) -> int:
    from mmearth.models.imports import import_published
    from mmearth.models.published import find_published

    model = find_published(options.model)
    folder = Settings().home / "models"
    card = import_published(model, options.file, folder, options.level)
    print(f"{card.id}: {card.title}")
    print(f"{model.licence}: {model.licence_words}")
    print(card.folder)
    return 0


def _doctor(_options: argparse.Namespace) -> int:
    from mmearth.doctor import report

    lines, healthy = report(Settings())
    print("\n".join(lines))
    return 0 if healthy else EXIT_ERROR


def _serve(options: argparse.Namespace) -> int:
    from mmearth.service.serve import serve

    serve(Settings(), parent_pid=options.parent_pid, watch_stdin=not options.keep_running)
    return 0
