"""Install a model."""

from __future__ import annotations

from mmearth.api import InstallResult, InstallSpec, Plan, Problem
from mmearth.errors import MMEarthError
from mmearth.jobs.context import JobContext
from mmearth.models.store.install import install
from mmearth.models.store.source import find_source
from mmearth.settings import Settings


def plan(spec: InstallSpec, settings: Settings) -> Plan:
    """Say what stands in the way; nothing is downloaded, and no weights are read."""
    try:
        return Plan(warnings=find_source(spec, settings).warnings)
    except MMEarthError as error:
        return Plan(errors=[Problem.of(error)])


def run(spec: InstallSpec, context: JobContext) -> InstallResult:
    """Install, whole or not at all.

    A download that was cancelled or broke off goes on when the same request comes again.

    Raises:
        MMEarthError: whatever stands in the way.
    """
    source = find_source(spec, context.settings)
    card = install(
        source,
        spec,
        context.settings,
        report=context.report,
        cancelled=context.is_cancelled,
    )
    return InstallResult(model=card.info(), warnings=source.warnings, seconds=context.elapsed())
