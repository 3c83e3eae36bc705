"""QGIS entry point; the code lives in the qgis_mmearth package beside this file.

The checkout itself is a plugin folder. QGIS imports it under its folder's name, ``qgis_mmearth``;
pointing ``__path__`` at the inner folder gives modules the same names here as in the tests.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parent / "qgis_mmearth")]


def classFactory(iface):  # noqa: N802 (QGIS asks for this name)
    """Return the plugin, as QGIS asks every plugin package to do."""
    from .plugin import MMEarthPlugin

    return MMEarthPlugin(iface)
