"""Opening the manual."""

from qgis.PyQt.QtCore import QUrl
from qgis.PyQt.QtGui import QDesktopServices

from .. import paths


def open_manual(section: str = "") -> None:
    """Open the manual that comes with the plugin, at a section."""
    url = QUrl.fromLocalFile(str(paths.MANUAL))
    if section:
        url.setFragment(section)
    QDesktopServices.openUrl(url)
