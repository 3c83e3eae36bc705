"""What can be installed from where: found out without network and without reading weights."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from mmearth.api import InstallSpec, Problem
from mmearth.errors import InputError, LicenceError, ModelError, listed
from mmearth.files import check_space
from mmearth.models.store.library import check_identifier, own_model
from mmearth.models.store.published import VERSION, PublishedModel, find_published
from mmearth.settings import Settings

WEIGHTS = "mmearth.models.store.weights"
ARCHIVE = "mmearth.models.store.archive"
# Ending of a file -> module with inspect(source, spec, settings) -> Found, and
# make_model(source, spec, folder, settings, tick) -> ModelCard, which makes a model folder within
# ``folder`` and calls ``tick`` with the bytes that it has written since.
IMPORTERS = {
    ".ckpt": WEIGHTS,
    ".onnx": "mmearth.models.onnx.importing",
    ".pt": WEIGHTS,
    ".pth": WEIGHTS,
    ".safetensors": WEIGHTS,
    ".zip": ARCHIVE,
}


class Found(NamedTuple):
    """What a file or folder will become.

    Attributes:
        identifier: of the model.
        version: of the model.
        bytes_needed: of the model's files.
    """

    identifier: str
    version: str
    bytes_needed: int


class Source(NamedTuple):
    """Something that can be installed.

    Attributes:
        importer: module that makes a model folder of it.
        path: file or folder; if it is to be downloaded, its name.
        published: what is to be downloaded, if anything.
        warnings: what the user should know before.
    """

    importer: str
    path: Path
    published: PublishedModel | None
    warnings: list[Problem]


def importer(name: str) -> ModuleType:
    """Import an importer; some take seconds, and a plan has no need of them."""
    return import_module(name)


def find_source(spec: InstallSpec, settings: Settings) -> Source:
    """Find what a request installs, and all that stands in its way so far.

    Raises:
        InputError: if it names nothing, or no file of a known kind.
        LicenceError: if the licence is not accepted.
        ModelError: if it is no model, or one that cannot be installed.
        DiskFullError: if there is too little space.
    """
    if spec.source:
        path = _existing(spec.source)
        name = ARCHIVE if path.is_dir() else _by_ending(path)
        if spec.published and name != WEIGHTS:
            raise InputError(
                f"Expected the file of weights of {spec.published}, found {path.name}.",
                "Leave the published encoder empty, or choose its file as published.",
            )
        _refuse_fields(spec, name, path)
        found, published = importer(name).inspect(path, spec, settings), None
    elif spec.published:
        published = find_published(spec.published, settings.published)
        name, path = WEIGHTS, Path(published.file_name)
        _refuse_fields(spec, name, path)
        found = _downloaded(published, spec)
    else:
        raise InputError(
            "Nothing to install is named.", "Name a published encoder, or a file or folder."
        )
    found = found._replace(identifier=spec.id or found.identifier)
    check_identifier(found.identifier, settings)
    check_space(_present(settings.own_models), found.bytes_needed)
    return Source(name, path, published, _replaced(found, settings))


def _existing(source: str) -> Path:
    path = Path(source)
    if not path.is_absolute():
        raise InputError(f"{path} is no full path.", "Give the whole path of the file.")
    if not path.exists():
        raise InputError(f"The file {path} does not exist.", "Choose a file or folder that does.")
    return path


def _refuse_fields(spec: InstallSpec, name: str, path: Path) -> None:
    """Refuse what is said of a file that says it itself: nothing is to be dropped in silence."""
    words = {
        "level": "a processing level",
        "sensor": "a sensor",
        "bands": "bands",
        "resolution_m": "a pixel size",
    }
    for field in words.keys() - importer(name).FIELDS:
        if getattr(spec, field):
            raise InputError(
                f"{path.name} needs no word of {words[field]}; found {getattr(spec, field)}.",
                "Leave it empty for this file.",
            )


def _by_ending(path: Path) -> str:
    if path.suffix.lower() not in IMPORTERS:
        raise InputError(
            f"Expected a model folder or a file that ends with {listed(IMPORTERS)}, found "
            f"{path.name}.",
            "Choose another file.",
        )
    return IMPORTERS[path.suffix.lower()]


def _downloaded(published: PublishedModel, spec: InstallSpec) -> Found:
    if published.access != "download":
        raise ModelError(
            f"{published.title} cannot be downloaded by MMEarth. {published.licence_words}",
            f"Obtain the file {published.file_name} from {published.page}, and install it from "
            "there.",
        )
    level = spec.level or published.levels[0]
    published.normalisation(level)
    if not spec.accept_licence:
        raise LicenceError(
            f"{published.title} has the licence {published.licence}. {published.licence_words}",
            "Accept the licence to install it; on the command line: --accept-licence.",
        )
    # The download and the model are there at once for a while.
    return Found(published.identifier(level), VERSION, 2 * (published.size or 0))


def _replaced(found: Found, settings: Settings) -> list[Problem]:
    old = own_model(found.identifier, settings)
    if not old:
        return []
    if old.version == found.version:
        return [
            Problem(
                code="installed",
                message=f"{old.title}, version {old.version}, is installed already: the very same "
                "model is mended, another one of this identifier and version is refused.",
                advice="Give the new one another identifier to have both.",
            )
        ]
    return [
        Problem(
            code="replaced",
            message=f"Version {found.version} takes the place of {old.title}, version "
            f"{old.version}.",
            advice="To keep the old one, export it before.",
        )
    ]


def _present(folder: Path) -> Path:
    """Return the folder, or the nearest one above that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder
