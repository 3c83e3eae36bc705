"""Job kinds by name. A new kind is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from mmearth.api import Plan, SegmentResult, SegmentSpec
from mmearth.jobs.context import JobContext
from mmearth.settings import Settings

# kind -> module with plan(spec, settings) -> Plan and run(spec, context) -> result
KINDS = {
    "segment": "mmearth.jobs.segment",
}


def plan_job(spec: SegmentSpec, settings: Settings) -> Plan:
    """Say what a job would do, and what stands in its way."""
    plan: Callable[..., Plan] = import_module(KINDS[spec.kind]).plan
    return plan(spec, settings)


def run_job(spec: SegmentSpec, context: JobContext) -> SegmentResult:
    """Do a job.

    Raises:
        MMEarthError: whatever stands in its way.
    """
    run: Callable[..., SegmentResult] = import_module(KINDS[spec.kind]).run
    return run(spec, context)
