"""Classes and names of a tuned model. Imports no torch, as plans ask for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mmearth.api import FinetuneSpec, LabelClass
from mmearth.models.card import ClassRow, ModelCard
from mmearth.training.labels.base import is_whole

REPORT_NAME = "report.html"  # in a model's folder

# Tol's "muted" scheme, told apart by the colour-blind too (SRON/EPS/TN/09-002, 2021).
COLORS = ("#117733", "#ddcc77", "#332288", "#cc6677", "#88ccee", "#aa4499", "#44aa99", "#999933",
          "#882255", "#dddddd")  # fmt: skip


def class_rows(
    names: Sequence[str], wanted: Iterable[LabelClass], base: ModelCard
) -> tuple[ClassRow, ...]:
    """Return the classes of a tuned model.

    A title and colour are those of the request, else those of the base's class of that name. Whole
    numbers in the field become the values in the map; other classes are numbered from 1.

    Args:
        names: of the classes as they stand in the field, in order.
        wanted: classes of the request.
        base: what the model is built on.
    """
    asked = {row.value: row for row in wanted}
    known = {key: row for row in base.classes for key in (row.title, row.name)}
    numbers = [int(name) if is_whole(name) else 0 for name in names]
    coded = all(1 <= number <= 250 for number in numbers) and len(set(numbers)) == len(numbers)
    used: set[str] = set()
    rows = []
    for place, name in enumerate(names):
        row, like = asked.get(name), known.get(name)
        title = (row.title if row else "") or (like.title if like else name)
        color = (row.color if row else "") or (like.color if like else "")
        rows.append(
            ClassRow(
                value=numbers[place] if coded else place + 1,
                name=_unique(_slug(title, "class"), used),
                title=title,
                color=color or COLORS[place % len(COLORS)],
            )
        )
    return tuple(rows)


def title_of(spec: FinetuneSpec, base: ModelCard) -> str:
    """Return the title of the tuned model."""
    return spec.title.strip() or f"{base.title}, tuned"


def free_identifier(title: str, taken: Iterable[str]) -> str:
    """Return an identifier made from a title that no model has yet, whatever its case."""
    return _unique(_slug(title, "model").replace("_", "-"), {one.casefold() for one in taken})


def _slug(text: str, otherwise: str) -> str:
    """Return a text as a name of files: small letters of English, digits and underscores."""
    words = re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_")
    return words[:60].strip("_") or otherwise


def _unique(name: str, used: set[str]) -> str:
    """Return a name that is not used yet, and use it."""
    number, found = 1, name
    while found in used:
        number += 1
        found = f"{name}-{number}"
    used.add(found)
    return found
