"""The card of a tuned model: what it was built on, what it learned from, how well it did."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from mmearth import __version__
from mmearth.api import ClassScore, FinetuneSpec
from mmearth.models.card import Accuracy, ClassRow, ModelCard, Product
from mmearth.training.classes import title_of
from mmearth.training.labels import Labels
from mmearth.training.metrics import accuracy_interval, f1, intersection_over_union
from mmearth.training.task import Task, Tested, Trained

PRODUCT = "classes"


def card_facts(
    task: Task, trained: Trained, spec: FinetuneSpec, rows: tuple[ClassRow, ...], identifier: str
) -> dict[str, Any]:
    """Return the fields of the tuned model's card, as ``save_model`` takes them.

    Args:
        task: what was learned.
        trained: what came of it.
        spec: the request.
        rows: classes of the model.
        identifier: of the model.
    """
    base = task.card
    kept = (
        "licence", "attribution", "sensor", "levels", "quantity", "bands", "normalisation",
        "resolution_m", "tile_size", "stride", "overlap",
    )  # fmt: skip
    units = int(task.labels.units_per_class.sum())
    start = "the architecture" if task.from_scratch else "what it knew"
    return {
        **{name: getattr(base, name) for name in kept},
        "id": identifier,
        "version": "1.0.0",
        "title": title_of(spec, base),
        "description": f"{len(rows)} classes learned from {units:,} labels drawn by the user, with "
        f"{start} of {base.title}.",
        "task": "segmentation",
        "temperature": trained.temperature,
        "network": trained.network,
        "classes": rows,
        "products": (Product(id=PRODUCT, title="Taught classes", classes=rows),),
        "accuracy": _accuracy(trained),
        "limits": (
            f"Learned from {units:,} labels in one scene: other places, seasons and processing "
            "levels were never shown.",
        ),
        "training": provenance(task, trained, spec),
    }


def provenance(task: Task, trained: Trained, spec: FinetuneSpec) -> dict[str, Any]:
    """Return everything that is needed to train the same model again."""
    facts: dict[str, Any] = {
        "base": task.card.id,
        "base version": task.card.version,
        "base SHA-256": task.card.sha256,
        "protocol": spec.protocol,
        "from scratch": spec.from_scratch,
        "labels": Path(spec.labels.path).name,
        "labels field": spec.labels.field or "",
        "labels SHA-256": labels_digest(task.labels),
        "validation": spec.validation,
        "seed": spec.seed,
        "rasters": [Path(item.path).name for item in spec.inputs],
        "date": datetime.now(timezone.utc).date().isoformat(),
        "software": f"mmearth {__version__}, torch {torch.__version__.partition('+')[0]}",
    }
    if spec.protocol != "quick":
        facts |= {"loss": spec.loss, "epochs": len(trained.history)}
    return facts | trained.facts


def labels_digest(labels: Labels) -> str:
    """Return the SHA-256 of labels as they were learned: the same pixels, the same hash."""
    digest = hashlib.sha256("\n".join(labels.names).encode())
    for values in (labels.rows, labels.cols, labels.classes, labels.units):
        digest.update(np.ascontiguousarray(values, "<i8").tobytes())
    return digest.hexdigest()


def scores(labels: Labels, rows: Sequence[ClassRow], tested: Tested | None) -> list[ClassScore]:
    """Return what was measured of each class."""
    none = [None] * len(rows)
    ious = _numbers(intersection_over_union(tested.matrix)) if tested else none
    f1s = _numbers(f1(tested.matrix)) if tested else none
    counts = zip(labels.units_per_class.tolist(), labels.pixels_per_class.tolist(), strict=True)
    return [
        ClassScore(
            value=name,
            title=row.title,
            color=row.color,
            units=units,
            pixels=pixels,
            iou=iou,
            f1=one,
        )
        for name, row, (units, pixels), iou, one in zip(
            labels.names, rows, counts, ious, f1s, strict=True
        )
    ]


def interval(tested: Tested) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy."""
    return accuracy_interval(tested.truth == tested.mapped, tested.units)


def stored_in_half(card: ModelCard) -> bool:
    """Tell whether a model's weights are stored in half precision; what is built on it is alike."""
    with safe_open(card.weights, "pt") as file:
        return not any(file.get_slice(key).get_dtype() == "F32" for key in file.keys())


def _accuracy(trained: Trained) -> tuple[Accuracy, ...]:
    if trained.tested is None:
        return ()
    units = len(np.unique(trained.tested.units))
    data = f"{units:,} labels that were not learned from, apart from the others"
    low, high = interval(trained.tested)
    found = [
        Accuracy(name="Overall accuracy", value=trained.tested.accuracy, data=data),
        Accuracy(name="Lower end of its 95 % interval", value=low, data=data),
        Accuracy(name="Upper end of its 95 % interval", value=high, data=data),
    ]
    if trained.baseline is not None:
        value = trained.baseline.accuracy
        found.append(Accuracy(name="Random forest on the raw bands", value=value, data=data))
    return tuple(found)


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
