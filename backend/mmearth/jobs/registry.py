"""Job kinds by name. A new kind is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from pydantic import TypeAdapter

from mmearth.api import JobResult, JobSpec, Plan
from mmearth.jobs.context import JobContext
from mmearth.settings import Settings

# kind -> module with plan(spec, settings) -> Plan and run(spec, context) -> result
KINDS = {
    "assess": "mmearth.jobs.assess",
    "disturbance": "mmearth.jobs.disturbance",
    "embed": "mmearth.jobs.embed",
    "evaluate": "mmearth.jobs.evaluate",
    "export": "mmearth.jobs.export",
    "finetune": "mmearth.jobs.finetune",
    "install": "mmearth.jobs.install",
    "pair": "mmearth.jobs.pair",
    "pretrain": "mmearth.jobs.pretrain",
    "preview": "mmearth.jobs.preview",
    "sampledesign": "mmearth.jobs.sampledesign",
    "segment": "mmearth.jobs.segment",
    "similarity": "mmearth.jobs.similarity",
    "views": "mmearth.jobs.views",
}


_SPEC: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)


def plan_job(spec: JobSpec, settings: Settings) -> Plan:
    """Say what a job would do, and what stands in its way."""
    plan: Callable[..., Plan] = import_module(KINDS[spec.kind]).plan
    return plan(spec, settings)


def run_job(spec: JobSpec, context: JobContext) -> JobResult:
    """Do a job.

    Raises:
        MMEarthError: whatever stands in its way.
    """
    run: Callable[..., JobResult] = import_module(KINDS[spec.kind]).run
    return run(spec, context)


def forget_previews() -> None:
    """Free what is kept in memory for previews."""
    import_module(KINDS["preview"]).forget()


def read_spec(spec: Mapping[str, Any]) -> JobSpec:
    """Read a request of any kind.

    Raises:
        pydantic.ValidationError: if it is none.
    """
    found: JobSpec = _SPEC.validate_python(spec)
    return found
