"""``mmearth models``: list models, and import published encoders."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmearth.settings import Settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
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
