"""onnxruntime, if it is installed, with everything that a file could reach out by left out."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mmearth.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

NEEDED = ("onnx", "onnxruntime")
_FATAL = 4  # what goes wrong is raised, and need not be printed as well


def require_onnx() -> None:
    """Check that what reads and writes ONNX files is installed.

    Raises:
        MissingExtraError: if it is not.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"ONNX files need packages that are not installed: {' and '.join(missing)}.",
            "Press ‘Install ONNX support’ in the model manager, or run "
            "tools/install_backend.py --extra onnx.",
        )


def open_session(path: Path) -> InferenceSession:
    """Load an ONNX file to be run on one core of the processor, by as many threads as call it.

    No library of operations is ever loaded: what is not part of onnxruntime is refused.

    Raises:
        MissingExtraError: if onnxruntime is not installed.
        ModelError: if the file is damaged, or needs what this onnxruntime does not have.
    """
    require_onnx()
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise ModelError(
            f"{path.name} cannot be run by onnxruntime {onnxruntime.__version__}: {reason(error)}.",
            "Obtain the file again, or ask its author for one of ONNX operations of version 17.",
        ) from error


def reason(error: Exception) -> str:
    """Return the first line of what onnx or onnxruntime said, without its code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return first.rpartition("[ONNXRuntimeError] : ")[2].rstrip(".")[:300]
