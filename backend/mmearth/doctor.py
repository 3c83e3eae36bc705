"""A check of the whole installation, in words that can be sent with a bug report."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable

from mmearth import __version__
from mmearth.errors import MMEarthError
from mmearth.models.registry import installed_models
from mmearth.settings import Settings


def report(settings: Settings) -> tuple[list[str], bool]:
    """Check everything that a job needs.

    Returns:
        Lines of text, and whether all is well.
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Backend", lambda: f"{__version__}, Python {platform.python_version()}"),
        ("System", platform.platform),
        ("Folder", lambda: _folder(settings)),
        ("Rasters", _rasters),
        ("Network library", lambda: _torch(settings)),
        ("Models", lambda: _models(settings)),
    ]
    lines, healthy = [], True
    for name, check in checks:
        try:
            lines.append(f"ok    {name}: {check()}")
        except Exception as error:
            healthy = False
            words = (
                str(error)
                if isinstance(error, MMEarthError)
                else f"{type(error).__name__}: {error}"
            )
            lines.append(f"FAIL  {name}: {words}")
    return lines, healthy


def _folder(settings: Settings) -> str:
    settings.home.mkdir(parents=True, exist_ok=True)
    probe = settings.home / ".probe"
    probe.touch()
    probe.unlink()
    free = shutil.disk_usage(settings.home).free / 2**30
    return f"{settings.home}, {free:.1f} GB free"


def _rasters() -> str:
    import pyogrio
    import rasterio
    from rasterio.drivers import raster_driver_extensions

    missing = {"tif", "jp2"} - set(raster_driver_extensions())
    if missing:
        raise MMEarthError(f"GDAL cannot write {', '.join(sorted(missing))}.")
    return f"GDAL {rasterio.__gdal_version__}, vectors by GDAL {pyogrio.__gdal_version_string__}"


def _torch(settings: Settings) -> str:
    import torch

    from mmearth.models.network import choose_device
    from mmearth.models.smp import smp

    device = choose_device(settings)
    side = torch.ones(64, 64, device=device)
    if float((side @ side)[0, 0]) != 64:
        raise MMEarthError(f"The device {device} computes wrongly.")
    return f"torch {torch.__version__}, networks {smp.__version__}, device {device}"


def _models(settings: Settings) -> str:
    cards = installed_models(settings.model_folders)
    for card in cards:
        card.check_weights()
    if not cards:
        raise MMEarthError("No models are installed.")
    return ", ".join(f"{card.id} {card.version}" for card in cards)
