"""Where the parts of the plugin lie: the same places in a checkout and in an installed plugin."""

from pathlib import Path

PLUGIN = Path(__file__).resolve().parents[1]
BACKEND = PLUGIN / "backend"
RESOURCES = PLUGIN / "resources"
ICONS = RESOURCES / "icons"
EMBEDDED_MODELS = RESOURCES / "models"
DEFAULT_MODEL = "landcover-s2"  # of the embedded ones
SAMPLE = RESOURCES / "sample"
MANUAL = RESOURCES / "manual" / "manual.html"
GUI = Path(__file__).resolve().parent / "gui"


def version() -> str:
    """Return the plugin's version, as its metadata states it."""
    for line in (PLUGIN / "metadata.txt").read_text("utf-8").splitlines():
        if line.startswith("version="):
            return line.partition("=")[2].strip()
    raise ValueError("metadata.txt states no version")
