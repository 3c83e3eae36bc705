"""What tests of models share."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def child_finds_the_backend(monkeypatch):
    """Published files are read in a process of its own, which must import the backend too."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "backend"))
