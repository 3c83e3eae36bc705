"""Log files of the backend: rotated, in one folder."""

from __future__ import annotations

import logging
import logging.handlers

from mmearth.settings import Settings

FILE_BYTES = 10 * 2**20
FILES = 4


def log_to(settings: Settings, name: str) -> None:
    """Send this process's log to ``<home>/logs/<name>.log``."""
    settings.logs_folder.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        settings.logs_folder / f"{name}.log",
        maxBytes=FILE_BYTES,
        backupCount=FILES - 1,
        encoding="utf-8",
    )
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
