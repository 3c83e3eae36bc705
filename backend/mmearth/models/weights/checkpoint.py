"""Reading a checkpoint in a process of its own, with nothing in it able to run.

A ``.pth`` file is a pickle, and a pickle is a program. torch's restricted reader admits tensors and
plain data only; what published files hold besides, options of their training run, is admitted as
inert stand-ins. All of it happens in a child process, so that a file made to exhaust memory or to
crash the reader takes nothing else with it.
"""

from __future__ import annotations

import pickle  # nosec B403 - only for the name of its error
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mmearth.errors import WeightsError
from mmearth.files import explained
from mmearth.models.child import answer, ask
from mmearth.models.registry import build_encoder
from mmearth.models.weights.layouts import encoder_state


class _Inert:
    """Takes the place of an object whose contents are of no interest."""

    def __init__(self, *_arguments: object, **_options: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


ADMITTED = (
    "argparse.Namespace",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
)


def convert(source: Path, encoder: str, in_channels: int, target: Path) -> None:
    """Make safetensors of an encoder out of a published file, in a child process.

    Args:
        source: ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors``.
        encoder: name in segmentation-models-pytorch's registry, ours included.
        in_channels: bands that the file's model reads.
        target: written if all goes well.

    Raises:
        WeightsError: if the file is not one that is known, is damaged, or holds code.
        OutputError: if the target cannot be written.
    """
    ask(__name__, source, encoder, str(in_channels), str(target))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a file's weights, in this process; not for files that are not trusted.

    Raises:
        WeightsError: if the file is damaged, or holds more than data.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        admitted: list[Any] = [(_Inert, name) for name in ADMITTED]
        with torch.serialization.safe_globals(admitted):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path.name} was refused: it holds more than weights ({_reason(error)}).",
            "Use a file from its publisher. A file that holds code could do harm.",
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, SafetensorError) as error:
        raise WeightsError(
            f"{path.name} cannot be read as weights: {_reason(error)}.", "Obtain the file again."
        ) from error
    if not isinstance(found, dict):
        raise WeightsError(
            f"{path.name} holds a {type(found).__name__}, expected weights by name.",
            "Use the file that the publisher names for this model.",
        )
    return found


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (telling or lines or [type(error).__name__])[0].rstrip(".")


def convert_in_process(source: Path, encoder: str, in_channels: int, target: Path) -> None:
    """Do what the child of ``convert`` does, here: only for files that are trusted."""
    network = build_encoder(encoder, in_channels=in_channels)
    state = encoder_state(read_checkpoint(source), network)
    with explained(target):
        try:
            save_file({key: value.contiguous() for key, value in state.items()}, target)
        except SafetensorError as error:  # also of the file system
            raise OSError(str(error)) from error


def main(arguments: list[str]) -> int:
    """Convert, in the child process."""
    source, encoder, in_channels, target = arguments

    def work() -> str:
        convert_in_process(Path(source), encoder, int(in_channels), Path(target))
        return ""

    return answer(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
