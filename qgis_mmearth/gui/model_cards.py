"""What is known of a model, as rich text for the window of models."""

from html import escape
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from qgis.PyQt.QtCore import QCoreApplication

from ..link.catalog import Model
from .words import folder_link

SHOWN_BANDS = 16  # of hundreds, only the first and the last say anything


def tr(text: str) -> str:
    """Translate."""
    return QCoreApplication.translate("MMEarth", text)


def task(model: Model) -> str:
    """Return in a few words what an installed model does."""
    if not model.products:
        return encoder_task()
    return tr("maps {}").format(", ".join(product.title.lower() for product in model.products))


def encoder_task() -> str:
    """Return in a few words what a model without classes is for."""
    return tr("encoder, to be trained")


def count_of_bands(count: int) -> str:
    """Return in words how many bands a model reads."""
    return tr("1 band") if count == 1 else tr("{} bands").format(count)


def size(size_bytes: int) -> str:
    """Return a size in megabytes."""
    return tr("{:,.1f} MB").format(size_bytes / 2**20)


def installed(model: Model, sensors: Mapping[str, str]) -> str:
    """Return the card of an installed model.

    Args:
        model: what its card says.
        sensors: titles of sensors by identifier.
    """
    rows = [
        *((tr("Maps"), _classes(product)) for product in model.products),
        *_facts(sensors, model.sensor, model.levels, model.bands, model.resolution_m),
        (tr("Licence"), escape(model.licence)),
        (tr("Attribution"), escape(model.attribution)),
        (tr("Size on disk"), size(model.size_bytes)),
        (tr("Comes from"), _link(model.source)),
        (tr("Folder"), folder_link(model.folder)),
        (tr("Name in Processing"), escape(model.id)),
    ]
    parts = [_head(model.title, model.version, task(model), model.description), _table(rows)]
    if model.accuracy:
        measured = [
            (escape(name), f"{value:.3f} <i>({escape(data)})</i>")
            for name, value, data in model.accuracy
        ]
        parts.append(f"<h4>{tr('Measured')}</h4>{_table(measured)}")
    if model.limits:
        parts.append(f"<h4>{tr('Known limits')}</h4>{_list(model.limits)}")
    return "".join(parts)


def published(info: Dict[str, Any], sensors: Mapping[str, str]) -> str:
    """Return the card of a published encoder, as the backend describes it."""
    download = info["access"] == "download"
    known = size(info["size_bytes"]) if info["size_bytes"] else tr("not stated by its publisher")
    rows = [
        *_facts(
            sensors,
            info["sensor"],
            info["levels"],
            [(band, "") for band in info["bands"]],
            info["resolution_m"],
        ),
        (tr("Licence"), escape(info["licence"])),
        (tr("Attribution"), escape(info["attribution"])),
        (tr("Size of the download"), known if download else ""),
        (tr("Comes from"), _link(info["url"] if download else info["page"])),
        (tr("File"), escape(info["file"])),
        (tr("Installed as"), escape(", ".join(info["installed"]))),
    ]
    words = tr("It maps nothing by itself, but learns from few labels what you want to map.")
    return _head(info["title"], "", encoder_task(), words) + _table(rows)


def _facts(
    sensors: Mapping[str, str],
    sensor: str,
    levels: Iterable[str],
    bands: Sequence[Tuple[str, str]],
    resolution_m: float,
) -> List[Tuple[str, str]]:
    return [
        (tr("Sensor"), escape(sensors.get(sensor, sensor))),
        (tr("Processing level"), escape(tr(" or ").join(levels))),
        (tr("Bands"), _bands(bands)),
        (tr("Pixel size"), tr("{:g} m").format(resolution_m)),
    ]


def _bands(bands: Sequence[Tuple[str, str]]) -> str:
    names = [f"{name} {title}".strip() if title != name else name for name, title in bands]
    if len(names) > SHOWN_BANDS:
        return escape(tr("{}, from {} to {}").format(len(names), names[0], names[-1]))
    return escape(", ".join(names))


def _classes(product: Any) -> str:
    rows = "".join(
        f'<br><span style="color:{escape(row.color)}">■</span>&nbsp;{escape(row.title)}'
        for row in product.classes
    )
    return f"{escape(product.title)}{rows}"


def _head(title: str, version: str, what: str, words: str) -> str:
    return (
        f"<h3>{escape(title)} <small>{escape(version)}</small></h3>"
        f"<p><b>{escape(what[:1].upper() + what[1:])}</b></p><p>{escape(words)}</p>"
    )


def _table(rows: Iterable[Tuple[str, str]]) -> str:
    lines = "".join(
        f'<tr><td style="padding:2px 12px 2px 0"><b>{name}</b></td>'
        f'<td style="padding:2px 0">{text}</td></tr>'
        for name, text in rows
        if text
    )
    return f"<table>{lines}</table>"


def _list(sentences: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def _link(address: str) -> str:
    """Return an address of the web as a link; a card may name anything else, which is only text."""
    if address.startswith(("https://", "http://")):
        return f'<a href="{escape(address)}">{escape(address)}</a>'
    return escape(address)
