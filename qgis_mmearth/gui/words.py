"""Numbers and problems in words, for the panel."""

from html import escape
from pathlib import Path
from typing import Any, Dict, List, Optional

from qgis.PyQt.QtCore import QCoreApplication
from qgis.PyQt.QtGui import QPalette
from qgis.PyQt.QtWidgets import QWidget

from ..link.catalog import Model, Product

# Dark tones for light themes, light tones for dark ones: each reaches a contrast of 4.5:1.
COLORS = {
    "error": ("#b71c1c", "#ff9e9e"),
    "warning": ("#8a5300", "#ffc266"),
    "good": ("#1b5e20", "#8ed891"),
    "link": ("#0b57d0", "#8ab4f8"),
}


def color(kind: str, widget: QWidget) -> str:
    """Return the colour of a kind of text, a key of ``COLORS``, in the theme of a widget."""
    # QGIS's dark themes colour backgrounds by style sheet; only the text's colour can be asked.
    text = widget.palette().color(QPalette.ColorRole.WindowText)
    return COLORS[kind][text.lightness() > 127]


def tr(text: str) -> str:
    """Translate."""
    return QCoreApplication.translate("MMEarth", text)


def duration(seconds: Optional[float]) -> str:
    """Return a time in the unit that suits it."""
    if seconds is None:
        return ""
    if seconds < 90:
        return tr("{} s").format(max(1, round(seconds)))
    if seconds < 5400:
        return tr("{} min").format(round(seconds / 60))
    return tr("{:.1f} h").format(seconds / 3600)


def effort(plan: Dict[str, Any]) -> str:
    """Return tiles, time and memory of a plan; empty if it cannot run."""
    if not plan["grid"]:
        return ""
    guess = "" if plan["seconds_measured"] else tr(" (first guess on this machine)")
    grid = plan["grid"]
    tiles = tr("1 tile") if plan["tiles"] == 1 else tr("{} tiles").format(f"{plan['tiles']:,}")
    return tr("{}, about {}{}, {:.1f} GB of memory. {} × {} pixels of {:g} m.").format(
        tiles,
        duration(plan["seconds"]),
        guess,
        plan["memory_bytes"] / 2**30,
        f"{grid['width']:,}",
        f"{grid['height']:,}",
        round(grid["pixel_m"], 1),
    )


def problem(message: str, advice: str) -> str:
    """Return a problem and what to do, as rich text."""
    return f"{escape(message)} <i>{escape(advice)}</i>" if advice else escape(message)


def problems(rows: List[Dict[str, str]]) -> str:
    """Return several problems, a line each."""
    return "<br>".join(problem(row["message"], row["advice"]) for row in rows)


def folder_link(folder: Path, length: int = 40) -> str:
    """Return a folder's name, not too long for the panel, as a link that opens it."""
    name = folder.name or str(folder)
    if len(name) > length:
        name = f"{name[: length // 2]}…{name[-length // 2 :]}"
    return f'<a href="{escape(folder.as_uri())}">{escape(name)}</a>'


def card(model: Model, product: Product) -> str:
    """Return the essentials of a model: classes with their colours, pixel size, licence."""
    classes = " ".join(
        f'<span style="color:{row.color}">■</span>&nbsp;{escape(row.title)}'
        for row in product.classes
    )
    size = model.size_bytes / 2**20
    facts = f"{model.sensor} · {model.resolution_m:g} m · {size:.1f} MB · {escape(model.licence)}"
    return f"<small>{classes}<br>{facts}</small>"


def card_details(model: Model) -> str:
    """Return everything that the card of a model says, for a tooltip."""
    accuracy = "".join(
        f"<br>{escape(name)}: {value:.3f} ({escape(data)})" for name, value, data in model.accuracy
    )
    return (
        f"<b>{escape(model.title)}</b> {escape(model.version)}<br>{escape(model.description)}"
        f"<br>{accuracy}<br><br>{escape(model.attribution)}"
    )
