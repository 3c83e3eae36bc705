"""Write a model to a file that another machine can install."""

from __future__ import annotations

from pathlib import Path

from mmearth.api import ExportResult, ExportSpec, Plan, Problem
from mmearth.errors import MMEarthError
from mmearth.files import explained, staged
from mmearth.jobs.context import JobContext
from mmearth.models.card import ModelCard
from mmearth.models.registry import find_model
from mmearth.models.store.archive import packed_bytes
from mmearth.models.store.export import check, export
from mmearth.raster.write import check_writable
from mmearth.settings import Settings


def plan(spec: ExportSpec, settings: Settings) -> Plan:
    """Say what stands in the way."""
    try:
        _prepare(spec, settings)
        return Plan()
    except MMEarthError as error:
        return Plan(errors=[Problem.of(error)])


def run(spec: ExportSpec, context: JobContext) -> ExportResult:
    """Write the file, whole or not at all.

    Raises:
        MMEarthError: whatever stands in the way.
    """
    card, target = _prepare(spec, context.settings)
    total, written = packed_bytes(card), 0

    def tick(count: int) -> None:
        nonlocal written
        written += count
        context.check_cancelled()
        words = f"Writing {written / 2**20:,.0f} of {total / 2**20:,.0f} MB"
        context.report(min(1.0, written / total), words, None)

    context.check_cancelled()
    context.report(0.0, f"Checking {card.title}", None)
    with staged(target) as temporary, explained(target):
        export(card, temporary, tick)
    return ExportResult(
        target=str(target),
        size_bytes=target.stat().st_size,
        model=card.id,
        model_title=card.title,
        seconds=context.elapsed(),
    )


def _prepare(spec: ExportSpec, settings: Settings) -> tuple[ModelCard, Path]:
    card, target = find_model(spec.model, settings.model_folders), Path(spec.target)
    check(card, target)
    check_writable([target], packed_bytes(card))
    return card, target
