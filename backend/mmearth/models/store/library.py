"""The user's own models: one is put in place, or removed, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mmearth.api import InstallSpec
from mmearth.errors import DiskFullError, ModelError, OutputError, is_disk_full
from mmearth.models.card import CARD_NAME, ModelCard, read_card
from mmearth.models.registry import find_model, installed_models
from mmearth.processes import exclusive, is_alive, process_stamp
from mmearth.settings import Settings

# Folders among the models, hence on their disk. Models in them are one level too deep to be found.
STAGING_PREFIX = ".mmearth-"
OWNER, REPLACED, REMOVED = "owner", "replaced", "removed"
SAFE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # of Windows


@contextlib.contextmanager
def staging(settings: Settings) -> Iterator[Path]:
    """Give an empty folder to build a model in; it goes at the end, and so do those of killed runs.

    Raises:
        OutputError: if the folder of the user's own models cannot be written to.
    """
    own = settings.own_models
    with _writable(own):
        own.mkdir(parents=True, exist_ok=True)
        with _turn(settings):
            for left in own.glob(f"{STAGING_PREFIX}*"):
                if not is_alive(_owner(left)):
                    _discard(left)
            folder = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=own))
            (folder / OWNER).write_text(process_stamp())
    try:
        yield folder
    finally:
        _discard(folder)


def check_identifier(identifier: str, settings: Settings) -> None:
    """Check that a model of the user's own may have an identifier.

    Raises:
        ModelError: if it is no name for a folder, or that of a model that comes with MMEarth.
    """
    if not SAFE_NAME.fullmatch(identifier) or DEVICES.fullmatch(identifier):
        raise ModelError(
            f"The model's identifier, {identifier[:100]!r}, cannot be the name of a folder.",
            "It may have up to 100 letters, digits, dots, hyphens and underscores, and begins and "
            "ends with a letter or a digit: ask whoever made the model for another.",
        )
    if _same(identifier, installed_models([settings.models])):
        raise ModelError(
            f"A model called {identifier} comes with MMEarth, and is not replaced.",
            "Give your model another identifier.",
        )


def own_model(identifier: str, settings: Settings) -> ModelCard | None:
    """Return the user's own model of an identifier, if there is one that can be read."""
    return _same(identifier, installed_models([settings.own_models]))


def renamed(card: ModelCard, spec: InstallSpec) -> ModelCard:
    """Give a model that is being installed the identifier and title that the user wants."""
    if spec.id in (None, card.id) and spec.title in (None, card.title):
        return card
    path = card.folder / CARD_NAME
    item = json.loads(path.read_text("utf-8"))
    item["id"] = item["properties"]["mlm:name"] = spec.id or card.id
    item["properties"]["title"] = spec.title or card.title
    path.write_text(json.dumps(item, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return read_card(card.folder)


def place(new: ModelCard, folder: Path, settings: Settings) -> ModelCard:
    """Move a model from a staging folder to the user's own; one of the same identifier goes.

    Of the same identifier and version, only the very same model is replaced, to mend it.

    Args:
        new: the model, in its folder.
        folder: the staging folder that it was built in.
        settings: settings of the backend.

    Returns:
        Its card, in its new place.

    Raises:
        ModelError: if it may not have its identifier, or another model has it and its version.
        OutputError: if it cannot be moved; all is then as it was before.
    """
    check_identifier(new.id, settings)
    target = settings.own_models / new.id
    with _turn(settings), _writable(settings.own_models):
        old = own_model(new.id, settings)
        if old and old.version == new.version and old.sha256 != new.sha256:
            raise ModelError(
                f"Another model called {new.id} is installed, of the same version {new.version}.",
                "Remove that one first; to keep it, export it before.",
            )
        (folder / REPLACED).mkdir()
        for path in {target, old.folder if old else target}:
            if os.path.lexists(path):
                os.replace(path, folder / REPLACED / path.name)
        os.replace(new.folder, target)
        os.replace(folder / REPLACED, folder / REMOVED)
    return read_card(target)


def remove(identifier: str, settings: Settings) -> None:
    """Remove a model of the user's own, also one that is damaged.

    Raises:
        ModelError: if there is none of that identifier, or it comes with MMEarth.
        OutputError: if it cannot be removed.
    """
    card = own_model(identifier, settings)
    folder = card.folder if card else settings.own_models / Path(identifier).name
    if not card and (folder.name != identifier or not (folder / CARD_NAME).is_file()):
        card = find_model(identifier, settings.model_folders)
        raise ModelError(
            f"{card.title} comes with MMEarth and cannot be removed.",
            "Only models that you installed can be.",
        )
    with staging(settings) as temporary, _turn(settings), _writable(settings.own_models):
        os.replace(folder, temporary / REMOVED)


def _same(identifier: str, cards: list[ModelCard]) -> ModelCard | None:
    """Find a model; some file systems take upper and lower case for the same."""
    for card in cards:
        if card.id.casefold() == identifier.casefold():
            return card
    return None


def _discard(folder: Path) -> None:
    """Remove a staging folder; what was to be replaced, and was not, returns to its place."""
    stuck = False
    for old in folder.glob(f"{REPLACED}/*"):
        if not os.path.lexists(folder.parent / old.name):
            try:
                os.replace(old, folder.parent / old.name)
            except OSError:  # another program has it open; it must not be lost
                stuck = True
    if not stuck:
        shutil.rmtree(folder, ignore_errors=True)


def _owner(folder: Path) -> str:
    path = folder / OWNER
    return path.read_text() if path.exists() else ""


def _turn(settings: Settings) -> contextlib.AbstractContextManager[None]:
    """Wait for others that move models."""
    return exclusive(settings.own_models.with_name("models.lock"))


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Put in words that models cannot be written."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(
                f"The disk of the models, {folder}, is full.", "Free some space and try again."
            ) from error
        raise OutputError(
            f"The folder of the models, {folder}, cannot be written to: {error}.",
            "Close other programs that use its models. Make it writable, or set MMEARTH_HOME to "
            "a folder that is.",
        ) from error
