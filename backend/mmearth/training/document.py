"""From a finished training to its report."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import torch
from numpy.typing import NDArray

from mmearth.api import FinetuneSpec
from mmearth.inference.predict import Computation, compute
from mmearth.inference.reader import read_batches
from mmearth.models.card import ModelCard
from mmearth.models.network import Network, loaded
from mmearth.sensors import load_sensor
from mmearth.training import pictures
from mmearth.training.classes import REPORT_NAME
from mmearth.training.report import Report, write_report
from mmearth.training.samples import nearest_tiles
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
    """Map the whole scene, without blending, which no picture shows.

    Returns:
        (H, W) uint8, class numbers from 1, 0 = no data.
    """
    network, layout, grid = loaded(Network, card, task.settings), task.layout, task.stack.grid
    classes = np.zeros((grid.height, grid.width), np.uint8)
    of_rows, of_cols = (
        nearest_tiles(axis, np.arange(axis.length)) for axis in (layout.rows, layout.cols)
    )
    workload = network.workload(layout.rows.tile)

    def likeliest(images: NDArray[np.float32], masks: NDArray[np.bool_]) -> torch.Tensor:
        return network.probabilities(images, masks).argmax(dim=1, keepdim=True) + 1

    batches = read_batches(task.stack, layout, workload.batch_size)
    computation = Computation(likeliest, 1, network.device)
    for batch, found in compute(batches, computation, workload, lambda: False):
        if found is None or batch.masks is None:
            continue
        rows = np.flatnonzero(of_rows == batch.number)
        for column, tile, mask in zip(batch.columns, found[:, 0], batch.masks, strict=True):
            cols = np.flatnonzero(of_cols == layout.cols.starts.index(column))
            place = np.ix_(rows - layout.rows.starts[batch.number], cols - column)
            classes[np.ix_(rows, cols)] = np.where(mask, tile.cpu().numpy(), 0)[place]
    return classes


def _words(value: object) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
