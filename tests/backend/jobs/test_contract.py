"""Rules that every job kind keeps."""

from __future__ import annotations

from typing import get_args

import pytest

from mmearth import api
from mmearth.errors import JobCancelled
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import KINDS, plan_job, run_job


def segment(scene, folder) -> api.SegmentSpec:
    return api.SegmentSpec(
        inputs=[api.RasterInput(path=str(scene))],
        model="tiny",
        outputs=api.SegmentOutputs(classes=str(folder / "classes.tif")),
    )


# kind -> function that makes a request, of a small scene, with results in a folder
SPECS = {
    "segment": segment,
}


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("kind", KINDS)
class TestJobContract:
    def test_kind_is_in_the_interface(self, kind) -> None:
        for union in (api.JobSpec, api.JobResult):
            members = get_args(get_args(union)[0])
            assert kind in [member.model_fields["kind"].default for member in members]

    def test_plans_and_runs(self, kind, scene, settings, out) -> None:
        spec = SPECS[kind](scene, out)
        assert spec.kind == kind
        assert plan_job(spec, settings).ready
        assert run_job(spec, JobContext(settings)).kind == kind
        assert list(out.iterdir())

    def test_cancels_before_it_writes(self, kind, scene, settings, out) -> None:
        with pytest.raises(JobCancelled):
            run_job(SPECS[kind](scene, out), JobContext(settings, is_cancelled=lambda: True))
        assert list(out.iterdir()) == []
