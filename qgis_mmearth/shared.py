"""The one backend of this QGIS, shared by the panel and the Processing algorithms."""

import atexit
import threading
from typing import List, Optional

from qgis.PyQt.QtCore import QObject, pyqtSignal

from . import paths, settings
from .link.backend import Backend
from .link.catalog import Model, installed_models
from .link.environment import Environment


class Events(QObject):
    """What the parts of the plugin tell each other."""

    models_changed = pyqtSignal()
    """A model was installed or removed; emitted in the main thread."""
    pretraining_told = pyqtSignal(object)
    """How far a pretraining is, a ``link.log.Told``; emitted in Processing's thread."""


events = Events()

_lock = threading.RLock()  # algorithms ask from threads of their own
_backend: Optional[Backend] = None
_outdated = False


def backend() -> Backend:
    """Return the backend as the settings describe it; it is not started by asking for it."""
    global _backend
    with _lock:
        old = _let_go() if _outdated and not _backend.busy else None
        if _backend is None:
            options = settings.environment_options()
            environment = Environment(settings.home(), paths.BACKEND, options)
            _backend = Backend(environment, settings.backend_variables())
            atexit.register(forget_backend)  # qgis_process unloads no plugins
        present = _backend
    if old is not None:
        old.stop()  # takes a while, in which no other thread is to wait
    return present


def renew_backend() -> bool:
    """Let settings and newly installed packages count from the next use on, but end no job for it.

    It may take seconds, in which the backend ends.

    Returns:
        Whether a job runs, with everything as it was.
    """
    global _outdated
    with _lock:
        _outdated = _backend is not None
        return backend() is not None and _outdated


def forget_backend() -> None:
    """Stop the backend; the next one is made from the settings as they then are."""
    with _lock:
        old = _let_go()
    if old is not None:
        old.stop()


def _let_go() -> Optional[Backend]:
    """Return the backend, which is still to be stopped, and know it no more."""
    global _backend, _outdated
    old, _backend, _outdated = _backend, None, False
    if old is not None:
        atexit.unregister(forget_backend)
    return old


def models() -> List[Model]:
    """Return the installed models; the first one is the default wherever a model is chosen.

    The user's own come first, then the embedded one for most uses, then the others.
    """
    found = installed_models([settings.home() / "models", paths.EMBEDDED_MODELS])
    return sorted(found, key=_is_special)


def _is_special(model: Model) -> bool:
    return model.folder.parent == paths.EMBEDDED_MODELS and model.id != paths.DEFAULT_MODEL
