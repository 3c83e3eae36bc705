"""Text for a bug report: versions, settings and what the backend says of itself."""

import platform
import subprocess  # constants only; programs are started by link.child

from qgis.core import Qgis
from qgis.PyQt.QtCore import PYQT_VERSION_STR, QT_VERSION_STR

from .. import paths, settings, shared
from ..link import advice, child

LOG_LINES = 30


def report() -> str:
    """Return everything that helps to find an error, without passwords. Takes seconds."""
    environment = shared.backend().environment
    lines = [
        f"MMEarth {paths.version()}",
        f"QGIS {Qgis.QGIS_VERSION}, Qt {QT_VERSION_STR}, PyQt {PYQT_VERSION_STR}",
        f"Python {platform.python_version()}, {platform.platform()}",
        f"Backend: {environment.state().value}, {environment.python}",
        *(f"{name} = {settings.read(name)!r}" for name in settings.KEYS),
        "",
        _doctor(environment),
        "",
        "End of the installation log:",
        _tail(environment.log_file),
    ]
    return advice.scrub("\n".join(lines))


def _doctor(environment) -> str:
    if not environment.python.exists():
        return "No backend is installed."
    process = child.start(
        [str(environment.python), "-s", "-m", "mmearth", "doctor"],
        env={**environment.variables(), **settings.backend_variables()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process.communicate()[0]


def _tail(path) -> str:
    if not path.exists():
        return "none"
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-LOG_LINES:])
