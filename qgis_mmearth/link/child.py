"""Starting other programs from within QGIS: a clean environment, no window, no survivors."""

import os
import signal
import subprocess  # only ever called with a list of arguments, never through a shell
import sys
from pathlib import Path
from typing import Dict, Optional

# QGIS sets these for itself; in another Python they load the wrong libraries or break imports.
DROPPED = {
    "GDAL_DATA", "GDAL_DRIVER_PATH", "GISBASE", "LD_LIBRARY_PATH", "LD_PRELOAD", "OSGEO4W_ROOT",
    "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV", "PIP_TARGET", "PIP_USER", "PROJ_DATA", "PROJ_LIB",
    "PYTHONEXECUTABLE", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE",
    "QGIS_PREFIX_PATH", "QT_PLUGIN_PATH", "SSLKEYLOGFILE", "VIRTUAL_ENV",
}  # fmt: skip
DROPPED_PREFIXES = ("DYLD_",)
# Certificates that a company sets are needed; those that QGIS points into itself are not.
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
STOP_SECONDS = 3.0


def clean_environment(extra: Optional[Dict[str, str]] = None) -> Dict[str, str]:
    """Return this process's environment without what belongs to QGIS, plus ``extra``.

    The user's own settings of pip (mirrors, proxies, certificates) stay.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in DROPPED and not name.startswith(DROPPED_PREFIXES)
    }
    qgis = os.environ.get("QGIS_PREFIX_PATH") or os.environ.get("OSGEO4W_ROOT")
    for name in CERTIFICATES:
        path = environment.get(name)
        if path and (not Path(path).exists() or (qgis and path.startswith(qgis))):
            del environment[name]
    environment.update(PYTHONIOENCODING="utf-8", PYTHONUTF8="1", PYTHONSAFEPATH="1")
    environment.update(extra or {})
    return environment


def start(command, **options) -> subprocess.Popen:
    """Start a program in a process group of its own, without a window on Windows."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        options["creationflags"] = flags
    else:
        options["start_new_session"] = True
    # Commands are lists of arguments made by this package; no shell reads them.
    return subprocess.Popen(command, **options)  # nosec B603


def stop(process: subprocess.Popen) -> None:
    """End a program and whatever it has started: politely, then by force."""
    if process.poll() is not None:
        return
    _signal_group(process, force=False)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _signal_group(process, force=True)
        process.wait()


def _signal_group(process: subprocess.Popen, force: bool) -> None:
    if sys.platform == "win32":
        # taskkill reaches the children too; Windows has no process groups in that sense.
        subprocess.run(  # nosec B603 B607 - a program of Windows, fixed arguments
            ["taskkill", "/T", "/F", "/PID", str(process.pid)],
            capture_output=True,
            creationflags=subprocess.CREATE_NO_WINDOW,
            check=False,
        )
        return
    try:
        os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)
    except ProcessLookupError:
        pass
