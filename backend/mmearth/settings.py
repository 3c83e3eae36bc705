"""Settings of the backend, read from ``MMEARTH_*`` environment variables."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PUBLISHED_MODELS = Path(__file__).resolve().parent / "models" / "store" / "published.toml"
EMBEDDED_MODELS = Path(__file__).resolve().parents[2] / "resources" / "models"


def default_home() -> Path:
    """Return the folder for everything that the backend keeps, by platform."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
    return base / "mmearth"


class Settings(BaseSettings):
    """What can be set from outside; the plugin passes all of it to its child process."""

    model_config = SettingsConfigDict(env_prefix="MMEARTH_", extra="ignore")

    home: Path = Field(default_factory=default_home)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int = Field(0, ge=0, description="CPU threads of the network; 0 = all cores.")
    memory_mb: int = Field(0, ge=0, description="Memory for one job's batches; 0 = by free memory.")
    idle_minutes: float = Field(15.0, gt=0, description="The service ends after so long unused.")
    token: str = Field("", description="Bearer token; empty means none is accepted.")

    models: Path = Field(
        EMBEDDED_MODELS,
        description="Folder of models, searched after the user's own. An installed package has "
        "none beside it, other than a checkout and the plugin.",
    )
    published: Path = Field(PUBLISHED_MODELS, description="List of the published encoders.")
    proxy: SecretStr = Field(
        SecretStr(""),
        description="Proxy for downloads, perhaps with name and password; if empty, those of the "
        "environment.",
    )

    @cached_property
    def cpu_threads(self) -> int:
        """Number of CPU threads to compute with."""
        return self.threads or os.cpu_count() or 1

    @property
    def model_folders(self) -> list[Path]:
        """Folders that hold models, the user's own first."""
        return [self.own_models, self.models]

    @property
    def own_models(self) -> Path:
        """Folder of the models that the user has installed."""
        return self.home / "models"

    @property
    def downloads_folder(self) -> Path:
        """Folder of downloads that are not yet installed."""
        return self.home / "downloads"

    @property
    def jobs_folder(self) -> Path:
        """Folder of job records."""
        return self.home / "jobs"

    @property
    def work_folder(self) -> Path:
        """Folder of unfinished results, from which an interrupted job goes on."""
        return self.home / "work"

    @property
    def logs_folder(self) -> Path:
        """Folder of log files."""
        return self.home / "logs"
