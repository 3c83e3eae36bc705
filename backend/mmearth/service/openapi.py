"""Write the description of the interface: ``python -m mmearth.service.openapi``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from mmearth.service.app import create_app
from mmearth.service.store import JobStore
from mmearth.service.supervisor import Supervisor
from mmearth.settings import Settings

COMMITTED = Path(__file__).resolve().parents[2] / "openapi.json"


def describe() -> dict[str, Any]:
    """Return the OpenAPI description of the service."""
    with tempfile.TemporaryDirectory() as folder:
        store = JobStore(Path(folder) / "jobs", Path(folder) / "work")
        settings = Settings(home=Path(folder))
        return create_app(settings, Supervisor(settings, store)).openapi()


if __name__ == "__main__":
    COMMITTED.write_text(json.dumps(describe(), indent=1, sort_keys=True) + "\n", "utf-8")
