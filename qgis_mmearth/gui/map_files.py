"""Where maps go: the folder and the names of their files, and the name of their group."""

import re
from pathlib import Path
from typing import Any, Dict, List

from qgis.core import QgsProject

from .. import settings
from ..layers import results


def output_folder(chosen: str = "") -> Path:
    """Return where results go.

    That is the folder chosen in the panel, that of the settings, the saved project's, or a
    temporary one; the settings may have changed since the panel was opened.
    """
    chosen = chosen or settings.read("output_folder")
    if chosen:
        return Path(chosen)
    project = QgsProject.instance().absolutePath()
    return Path(project) if project else settings.temporary_folder()


def is_kept(folder: Path) -> bool:
    """Tell whether results in a folder stay when QGIS is closed."""
    return folder != settings.temporary_folder()


def output_files(folder: Path, raster: str, product: str, wanted: List[str]) -> Dict[str, str]:
    """Return files for the wanted outputs, named after the raster and what is mapped."""
    stem = re.sub(r"[^\w\-]+", "_", f"{raster}_{product}")
    return results.output_paths(folder, stem, wanted)


def group_name(raster: str, title: str, result: Dict[str, Any]) -> str:
    """Return the name of the group of a result's layers."""
    return f"{raster} – {title} ({result['model_title']})"
