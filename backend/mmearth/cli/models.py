"""``mmearth models``: list, download, import, export and remove models."""

from __future__ import annotations

import argparse
import json
import sys

from mmearth.api import ExportSpec, InstallSpec, ModelInfo, PublishedInfo
from mmearth.cli.mapping import full_path
from mmearth.cli.progress import follow, print_warnings
from mmearth.errors import JobCancelled
from mmearth.settings import Settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    models = commands.add_parser("models", help="list, download, import, export, remove models")
    models.add_argument("--json", action="store_true", help="print everything, as JSON")
    models.set_defaults(run=_list)
    actions = models.add_subparsers(title="actions", metavar="ACTION")

    listing = actions.add_parser("list", help="list the installed models (the default)")
    _add_json(listing)
    listing.set_defaults(run=_list)

    published = actions.add_parser("published", help="list published encoders")
    _add_json(published)
    published.set_defaults(run=_published)

    get = actions.add_parser("get", help="download and install a published encoder")
    get.add_argument("published", metavar="ID", help="which one, see 'published'")
    get.add_argument("--accept-licence", action="store_true", help="accept it without a question")
    _add_level(get)
    get.set_defaults(run=_get)

    imports = actions.add_parser("import", help="install a model from a file or folder")
    imports.add_argument(
        "source",
        metavar="FILE|FOLDER",
        help="published weights, ONNX, a model folder or its zip",
    )
    imports.add_argument("--as", dest="published", help="the published encoder that a file is")
    _add_level(imports)
    imports.add_argument("--sensor", help="of an ONNX file that does not say it")
    imports.add_argument(
        "--bands", nargs="+", default=[], help="in order, of an ONNX file that does not say them"
    )
    imports.add_argument(
        "--resolution", type=float, help="pixel size in metres of an ONNX file that does not say it"
    )
    imports.set_defaults(run=_import)

    imports.add_argument("--id", help="identifier of the model; default: its own")
    imports.add_argument("--title", help="title of the model; default: its own")

    remove = actions.add_parser("remove", help="remove a model that you installed")
    remove.add_argument("model", metavar="ID")
    remove.set_defaults(run=_remove)

    export = actions.add_parser("export", help="write a model to a file, for another machine")
    export.add_argument("model", metavar="ID")
    export.add_argument("target", metavar="TARGET", help="file to write, .zip or .onnx")
    export.set_defaults(run=_export)


def _add_json(parser: argparse.ArgumentParser) -> None:
    # Kept as it is if it is not given: it may stand before the action as well.
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print everything, as JSON"
    )


def _add_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--level", help="processing level of your images; default: its first")


def _list(options: argparse.Namespace) -> int:
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


def _published(options: argparse.Namespace) -> int:
    found = _published_models(Settings())
    if options.json:
        print(json.dumps([model.model_dump() for model in found], indent=1))
        return 0
    for model in found:
        print(f"{model.id}  {model.title}{', installed' if model.installed else ''}")
        print(f"    level {' or '.join(model.levels)}; {len(model.bands)} bands; {model.licence}")
        print(f"    {model.url or f'{model.file} from {model.page}'}")
    return 0


def _get(options: argparse.Namespace) -> int:
    settings = Settings()
    accepted = options.accept_licence or _accepts(options.published, settings)
    spec = InstallSpec(published=options.published, level=options.level, accept_licence=accepted)
    return _install(spec, settings)


def _import(options: argparse.Namespace) -> int:
    spec = InstallSpec(
        published=options.published,
        source=full_path(options.source),
        level=options.level,
        sensor=options.sensor,
        bands=options.bands,
        resolution_m=options.resolution,
        id=options.id,
        title=options.title,
    )
    return _install(spec, Settings())


def _install(spec: InstallSpec, settings: Settings) -> int:
    from mmearth.jobs import install
    from mmearth.models.registry import find_model

    result = follow(lambda context: install.run(spec, context), settings)
    print_warnings(result.warnings)
    print(f"{result.model.id}: {result.model.title}")
    print(_terms(result.model))
    print(find_model(result.model.id, settings.model_folders).folder)
    return 0


def _remove(options: argparse.Namespace) -> int:
    from mmearth.models.store.library import remove

    remove(options.model, Settings())
    print(f"{options.model} is removed.")
    return 0


def _export(options: argparse.Namespace) -> int:
    from mmearth.jobs import export

    spec = ExportSpec(model=options.model, target=full_path(options.target) or "")
    result = follow(lambda context: export.run(spec, context), Settings())
    print_warnings(result.warnings)
    print(f"{result.target}: {result.size_bytes / 2**20:,.1f} MB")
    return 0


def _accepts(model_id: str, settings: Settings) -> bool:
    """Ask at the terminal whether the licence is accepted; if there is none, it is not."""
    known = {model.id: model for model in _published_models(settings)}
    model = known.get(model_id)
    if model is None or model.access != "download" or not sys.stdin.isatty():
        return False  # installing says why not
    print(f"{model.title}\nLicence: {model.licence}. {model.licence_words}")
    try:
        return input("Do you accept the licence? [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        raise JobCancelled("Cancelled.") from None


def _published_models(settings: Settings) -> list[PublishedInfo]:
    from mmearth.models.registry import installed_models
    from mmearth.models.store.published import published_models

    installed = {card.id for card in installed_models(settings.model_folders)}
    return [model.info(installed) for model in published_models(settings.published)]


def _terms(model: ModelInfo) -> str:
    return f"{model.licence}: {' '.join(model.limits)}" if model.limits else model.licence
