"""A model folder as a zip file, and back: what travels from one machine to another."""

from __future__ import annotations

import json
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from mmearth.api import InstallSpec
from mmearth.errors import ModelError
from mmearth.models.card import CARD_NAME, ONNX_NAME, WEIGHTS_NAME, ModelCard, read_card
from mmearth.models.store.source import Found
from mmearth.settings import Settings

MOST_FILES = 100
MOST_BYTES = 16 * 2**30
# Weights hardly shrink. What swells a hundredfold is no model; below the size it does no harm.
LARGEST_RATIO, HARMLESS_BYTES = 100, 64 * 2**20
BLOCK_BYTES = 2**20
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can name


# Of a request, beside its source: what has to be said of such a file.
FIELDS: frozenset[str] = frozenset()


def pack(card: ModelCard, target: Path, tick: Callable[[int], None]) -> None:
    """Write a model's folder to a zip file, the same byte for byte from the same files.

    Args:
        card: the model.
        target: file to write.
        tick: called often with the bytes that were written since.

    Raises:
        ModelError: if the weights are not those of the card.
        OSError: if it cannot be written.
    """
    card.check_weights()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in _model_files(card.folder):
            entry = zipfile.ZipInfo(f"{card.id}/{path.name}", EPOCH)
            entry.create_system = 3  # Unix, on every machine
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w") as file:
                _copy(source, file, tick)


def packed_bytes(card: ModelCard) -> int:
    """Return the size of a model's files."""
    return sum(path.stat().st_size for path in _model_files(card.folder))


def inspect(source: Path, _spec: InstallSpec, _settings: Settings) -> Found:
    """Look into a zip file or a folder, without unpacking anything.

    Raises:
        ModelError: if it holds no model, or something that a model has no need of.
    """
    if source.is_dir():
        files = _model_files(source)
        card = _card(source, source)
        return Found(card.id, card.version, sum(path.stat().st_size for path in files))
    with _opened(source) as archive:
        entries = _entries(archive, source)
        try:
            item = json.loads(archive.read(entries[CARD_NAME]))
            found = str(item["id"]), str(item["properties"]["version"])
        except (ValueError, LookupError, TypeError, OSError, zlib.error, *_BROKEN) as error:
            raise _damaged(source) from error
        return Found(*found, sum(entry.file_size for entry in entries.values()))


def make_model(
    source: Path,
    _spec: InstallSpec,
    folder: Path,
    _settings: Settings,
    tick: Callable[[int], None],
) -> ModelCard:
    """Copy or unpack a model into a folder of its own within a folder.

    Raises:
        ModelError: if it holds no model, is damaged, or holds what a model has no need of.
    """
    target = folder / "model"
    target.mkdir()
    if source.is_dir():
        for path in _model_files(source):
            with path.open("rb") as file, (target / path.name).open("wb") as copy:
                _copy(file, copy, tick)
        return _card(target, source)
    with _opened(source) as archive:
        for name, entry in _entries(archive, source).items():
            try:
                with archive.open(entry) as packed, (target / name).open("wb") as copy:
                    _copy(packed, copy, tick)
            except (EOFError, zlib.error, *_BROKEN) as error:
                raise _damaged(source) from error
    return _card(target, source)


def _card(folder: Path, source: Path) -> ModelCard:
    """Read the card in a folder that came from elsewhere; in messages it has the source's name."""
    try:
        return read_card(folder)
    except ModelError as error:
        raise ModelError(
            error.message.replace(folder.name, source.name, 1),
            "Choose a folder or zip file that MMEarth exported.",
        ) from error


_BROKEN = (zipfile.BadZipFile, NotImplementedError, RuntimeError)


def _opened(source: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except (OSError, ValueError, *_BROKEN) as error:
        raise _damaged(source) from error


def _damaged(source: Path) -> ModelError:
    return ModelError(
        f"{source.name} is damaged, or no zip file of a model.", "Export or obtain it again."
    )


def _model_files(folder: Path) -> list[Path]:
    """Return the files of a model: card, weights, and what lies beside them.

    Raises:
        ModelError: if there is a link among them, or far more than a model has.
    """
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in found if path.is_file()]
    for path in found:
        if path.is_symlink():
            raise ModelError(
                f"The folder {folder.name} was refused: {path.name} is a link to another place.",
                "Put the file itself there.",
            )
    if len(files) > MOST_FILES or sum(path.stat().st_size for path in files) > MOST_BYTES:
        raise ModelError(
            f"The folder {folder.name} holds {len(files):,} files, more or larger ones than a "
            "model has.",
            "Choose the folder of one model.",
        )
    return files


def _entries(archive: zipfile.ZipFile, source: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files in a zip by name, if they are a model folder and nothing else.

    All of them lie at the top, or all in one folder.
    """
    files = [entry for entry in archive.infolist() if not entry.is_dir()]
    for entry in files:
        if reason := _reason(entry):
            raise ModelError(
                f"{source.name} was refused: {entry.filename[:100]!r} {reason}.",
                "Use a zip file as MMEarth exports it. One like this could do harm.",
            )
    paths = [PurePosixPath(entry.filename) for entry in files]
    cards = [path for path in paths if path.name == CARD_NAME]
    total = sum(entry.file_size for entry in files)
    packed = sum(entry.compress_size for entry in files)
    found = ""
    if len(cards) > 1:
        found = f"holds {len(cards)} models, expected one"
    elif not cards:
        found = f"holds no model: it has no {CARD_NAME}"
    elif not {cards[0].with_name(name) for name in (WEIGHTS_NAME, ONNX_NAME)} & set(paths):
        found = f"lacks {WEIGHTS_NAME} or {ONNX_NAME}"
    elif len({path.parent for path in paths}) > 1 or len(cards[0].parts) > 2:
        found = "has files outside of the model's folder"
    elif len({path.name.casefold() for path in paths}) < len(paths):
        found = "has two files of one name"
    elif len(paths) > MOST_FILES:
        found = f"holds {len(paths):,} files; a model has a handful"
    elif total > MOST_BYTES or total > max(LARGEST_RATIO * packed, HARMLESS_BYTES):
        found = f"would swell from {packed:,} to {total:,} bytes"
    if found:
        raise ModelError(
            f"{source.name} {found}.", "Use a zip file of one model, as MMEarth exports it."
        )
    return {path.name: entry for path, entry in zip(paths, files, strict=True)}


def _reason(entry: zipfile.ZipInfo) -> str:
    """Return why a file is not unpacked, empty if it may be."""
    name = entry.orig_filename  # zipfile tidies names up; what was meant counts
    if name.startswith("/") or "\\" in name or ":" in name or "\0" in name:
        return "is no plain name"
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).name.startswith("."):
        return "is no plain name"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link, or no file at all"
    return "is encrypted" if entry.flag_bits & 1 else ""


def _copy(source: IO[bytes], target: IO[bytes], tick: Callable[[int], None]) -> None:
    while block := source.read(BLOCK_BYTES):
        target.write(block)
        tick(len(block))
