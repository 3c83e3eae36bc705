"""The service itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmearth.api.base import Schema

API_VERSION = 1


class ServiceInfo(Schema):
    """What the plugin needs to know of the backend it talks to."""

    app: Literal["mmearth"] = "mmearth"
    version: str
    api: int = API_VERSION
    pid: int
    python: str
    gdal: str
    torch: str
    device: str = Field(description="Device chosen in the settings: auto, cpu, cuda, mps.")
    threads: int
    home: str


class Health(Schema):
    """Answer of a living service."""

    status: Literal["ok"] = "ok"
    running: str | None = Field(None, description="Identifier of the job that is being computed.")
    queued: int = 0
