"""The one backend of this QGIS, shared by the panel and the Processing algorithms."""

import atexit
from typing import List, Optional

from . import paths, settings
from .link.backend import Backend
from .link.catalog import Model, installed_models
from .link.environment import Environment

_backend: Optional[Backend] = None


def backend() -> Backend:
    """Return the backend as the settings describe it; it is not started by asking for it."""
    global _backend
    if _backend is None:
        environment = Environment(settings.home(), paths.BACKEND, settings.environment_options())
        _backend = Backend(environment, settings.backend_variables())
        atexit.register(forget_backend)  # qgis_process unloads no plugins
    return _backend


def forget_backend() -> None:
    """Stop the backend; the next one is made from the settings as they then are."""
    global _backend
    if _backend is not None:
        _backend.stop()
        atexit.unregister(forget_backend)
    _backend = None


def models() -> List[Model]:
    """Return the installed models, the user's own first."""
    return installed_models([settings.home() / "models", paths.EMBEDDED_MODELS])
