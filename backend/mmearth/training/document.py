"""From a finished training to its report."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from mmearth.api import FinetuneSpec
from mmearth.inference.predict import class_probabilities, compute_rows
from mmearth.models.card import ModelCard
from mmearth.models.network import Network, loaded
from mmearth.sensors import load_sensor
from mmearth.training import pictures
from mmearth.training.classes import REPORT_NAME
from mmearth.training.report import Report, write_report
from mmearth.training.task import Task, Trained

MOST_TILES = 64  # of a scene that is mapped for its picture: seconds, also without a graphics card
# Of the card's provenance: the report tells these by itself.
_TOLD = {"base", "protocol", "from scratch", "validation", "date", "epochs"}


def document(
    task: Task, trained: Trained, spec: FinetuneSpec, card: ModelCard, seconds: float
) -> None:
    """Write the report of a tuned model into its folder.

    Args:
        task: what was learned.
        trained: what came of it.
        spec: the request.
        card: of the tuned model, in its folder.
        seconds: that the training took.
    """
    sensor = load_sensor(card.sensor)
    report = Report(
        title=card.title,
        base=task.card.title,
        protocol=spec.protocol,
        labels=task.labels,
        titles=tuple(row.title for row in card.classes),
        colors=tuple(row.color for row in card.classes),
        trained=trained,
        validation=spec.validation,
        made=datetime.now(),
        seconds=seconds,
        provenance={
            f"{name[0].upper()}{name[1:]}": _words(value)
            for name, value in card.training.items()
            if name not in _TOLD and name not in trained.facts
        },
        from_scratch=spec.from_scratch,
        unit="polygon" if spec.labels.field else "block",
        view=pictures.view(task.stack, [sensor.band(name).wavelength_nm for name in card.bands]),
        classes=_map(task, card) if task.layout.count <= MOST_TILES else None,
    )
    write_report(card.folder / REPORT_NAME, report)


def _map(task: Task, card: ModelCard) -> NDArray[np.uint8]:
    """Map the whole scene. Returns (H, W) uint8, class numbers from 1, 0 = no data."""
    network = loaded(Network, card, task.settings)
    grid = task.stack.grid
    classes = np.zeros((grid.height, grid.width), np.uint8)
    workload = network.workload(task.layout.rows.tile)
    for band in compute_rows(task.stack, class_probabilities(network), task.layout, workload):
        found = band.values.argmax(dim=0).numpy() + 1
        classes[band.start : band.start + found.shape[0]] = np.where(band.valid, found, 0)
    return classes


def _words(value: object) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
