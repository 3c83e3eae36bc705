"""The log of a pretraining: lines of JSON that grow while it runs."""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional


class Row(NamedTuple):
    """What a stretch of steps came to."""

    step: int
    """The last of them."""
    losses: Dict[str, float]
    """Mean error of each quantity that is predicted."""
    held: Dict[str, float] = {}
    """The same after these steps, on images that are held back; empty if there are none."""


class Told(NamedTuple):
    """How far a pretraining is."""

    run: int
    """Number of the pretraining: several may run at once."""
    title: str
    words: str
    """Where it stands."""
    steps: int
    """That it takes."""
    rows: List[Row]
    """Of its log."""
    begins: bool = False
    """Whether nothing was told of it before."""
    over: bool = False
    """Whether nothing will be told of it any more."""
    model: str = ""
    """Identifier of the encoder, once it is installed."""
    picture: str = ""
    """File of reconstructions, once there is one."""


class Log:
    """Follows a log file, which may be begun anew."""

    def __init__(self) -> None:
        self.rows: List[Row] = []
        self._stamp: Optional[tuple] = None

    def look(self, path: Path) -> bool:
        """Read the file if it has changed; what is cut off in the middle is left for later.

        Returns:
            Whether there are other rows than before.
        """
        try:
            stamp = (path.stat().st_mtime_ns, path.stat().st_size)
            if stamp == self._stamp:
                return False
            text = path.read_text("utf-8")
        except OSError:  # not there yet, or gone with the work that is done
            return False
        self._stamp, before = stamp, self.rows
        self.rows = [_row(json.loads(line)) for line in text.splitlines(True) if line[-1] == "\n"]
        return self.rows != before


def _row(found: Dict[str, Any]) -> Row:
    return Row(found["step"], found["losses"], found["held"])
