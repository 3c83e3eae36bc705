"""The plugin's settings, in QGIS's own store, one function a setting.

What the backend needs of them reaches it as environment variables; the address of a remote backend
is reserved for later.
"""

from pathlib import Path
from typing import Dict
from urllib.parse import quote

from qgis.core import QgsNetworkAccessManager, QgsSettings
from qgis.PyQt.QtNetwork import QNetworkProxy

from .link.environment import Options, default_home

GROUP = "mmearth"
KEYS = {
    "home": "",
    "python": "",
    "base_python": "",
    "wheels": "",
    "accelerator": "cpu",
    "device": "auto",
    "threads": 0,
    "memory_mb": 0,
    "output_folder": "",
    "remote_url": "",
}
# What makes no difference to the backend.
OURS = {"output_folder", "remote_url"}


def read(name: str):
    """Return a setting, or its default; the type is that of the default."""
    default = KEYS[name]
    return QgsSettings().value(f"{GROUP}/{name}", default, type=type(default))


def write(name: str, value) -> None:
    """Keep a setting."""
    QgsSettings().setValue(f"{GROUP}/{name}", type(KEYS[name])(value))


def home() -> Path:
    """Return the folder of the backend's environment, models, jobs and logs."""
    return Path(read("home")) if read("home") else default_home()


def environment_options() -> Options:
    """Return how to make the backend's environment."""
    return Options(
        accelerator=read("accelerator"),
        python=read("python"),
        base_python=read("base_python"),
        wheels=read("wheels"),
        proxy=_proxy(),
    )


def backend_variables() -> Dict[str, str]:
    """Return the backend's settings as environment variables."""
    return {
        "MMEARTH_DEVICE": read("device"),
        "MMEARTH_THREADS": str(read("threads")),
        "MMEARTH_MEMORY_MB": str(read("memory_mb")),
        "MMEARTH_PROXY": _proxy(),
    }


def _proxy() -> str:
    """Return QGIS's proxy as an address; empty if there is none, or of a kind pip cannot use."""
    # Where QGIS keeps the proxy of its network settings; Qt's application proxy stays unset.
    proxy = QgsNetworkAccessManager.instance().fallbackProxy()
    kinds = QNetworkProxy.ProxyType
    scheme = {kinds.HttpProxy: "http", kinds.Socks5Proxy: "socks5h"}.get(proxy.type())
    if not (scheme and proxy.hostName()):
        return ""
    user, secret = (quote(text, safe="") for text in (proxy.user(), proxy.password()))
    credentials = f"{user}:{secret}@" if user else ""
    return f"{scheme}://{credentials}{proxy.hostName()}:{proxy.port()}"


def temporary_folder() -> Path:
    """Return QGIS's folder for files that go when it ends."""
    from qgis.core import QgsProcessingUtils

    return Path(QgsProcessingUtils.tempFolder())
