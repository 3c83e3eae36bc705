"""The log as files of TensorBoard, which shows its curves."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mmearth.errors import MissingExtraError
from mmearth.files import explained

if TYPE_CHECKING:
    from mmearth.pretraining.record import Row


def require_tensorboard() -> None:
    """Check that what writes such files is installed.

    Raises:
        MissingExtraError: if it is not.
    """
    if find_spec("tensorboard") is None:
        raise MissingExtraError(
            "Files for TensorBoard need a package that is not installed: tensorboard.",
            "Install it beside the backend (pip install tensorboard, or from a clone "
            "tools/install_backend.py --extra tensorboard), or leave their folder out.",
        )


class Events:
    """Curves of a run; a context manager.

    Args:
        folder: of the files; more than one run of the same training may write there.
        done: steps that earlier runs did; what they wrote of later ones no longer counts.

    Raises:
        MissingExtraError: if what writes such files is not installed.
        OutputError: if the folder cannot be written to.
    """

    def __init__(self, folder: Path, done: int) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        with explained(folder):
            self._writer = SummaryWriter(str(folder), purge_step=done + 1)

    def write(self, row: Row) -> None:
        """Add a row of the log."""
        values = {
            "loss": row.loss,
            "gradient": row.gradient,
            "spread": row.spread,
            "learning rate": row.learning_rate,
            **{f"learned/{name}": value for name, value in row.losses.items()},
            **{f"held back/{name}": value for name, value in row.held.items()},
        }
        with explained(self._folder):
            for name, value in values.items():
                self._writer.add_scalar(name, value, row.step)
            self._writer.flush()

    def close(self) -> None:
        """End the files."""
        self._writer.close()
