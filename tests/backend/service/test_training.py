"""Trainings in the service: one whose worker is killed goes on, one that is cancelled is kept."""

from __future__ import annotations

import os
import signal

import numpy as np
import pyogrio.raw
import pytest
import shapely
from scenes import S2

from mmearth import api
from mmearth.models.card import read_card
from service.client import Service, wait

LEFT, TOP, SIDE = 600_000.0, 5_400_000.0, 96


@pytest.fixture
def spec(make_raster, tmp_path) -> api.FinetuneSpec:
    """Fields of 16 pixels of two kinds, with a square drawn in each, to be learned by Full."""
    kinds = np.add(*np.mgrid[:SIDE, :SIDE] // 16) % 2
    spectra = np.random.default_rng(0).uniform(400, 3000, (2, 12))
    values = spectra[kinds].transpose(2, 0, 1).astype(np.uint16)
    corners = [(row, col) for row in range(4, SIDE, 16) for col in range(4, SIDE, 16)]
    boxes = [
        shapely.box(LEFT + 10 * col, TOP - 10 * (row + 8), LEFT + 10 * (col + 8), TOP - 10 * row)
        for row, col in corners
    ]
    labels = tmp_path / "labels.gpkg"
    pyogrio.raw.write(
        labels, shapely.to_wkb(boxes), [np.array([kinds[corner] for corner in corners])], ["kind"],
        geometry_type="Polygon", crs="EPSG:32632",
    )  # fmt: skip
    return api.FinetuneSpec(
        inputs=[api.RasterInput(path=str(make_raster("scene.tif", values, bands=S2)))],
        model="tiny",
        labels=api.LabelSource(path=str(labels), field="kind"),
        protocol="full",
        epochs=5,
        title="Kinds",
    )


@pytest.fixture
def service(settings, tiny_model):
    (settings.home / "models").unlink()  # one of the user's own, as models are put there
    with Service(settings.home, MMEARTH_MODELS=str(tiny_model.folder.parent)) as running:
        yield running


def stage(service: Service, job_id: str, words: str) -> str:
    """Wait for a stage that begins so, and return it."""
    for _ in wait(60):
        job = service.get(f"/jobs/{job_id}")
        assert job["state"] in ("queued", "running"), job
        if job["stage"].startswith(words):
            return job["stage"]
    raise AssertionError(job)


def test_a_killed_training_goes_on(service, spec, settings) -> None:
    spec = spec.model_copy(update={"validation": 0.0})
    job_id = service.submit(spec)
    stage(service, job_id, "Round 2")
    os.kill(service.worker_pid(), signal.SIGKILL)
    assert "goes on where it stopped" in service.wait_for(job_id, "failed")["error"]["advice"]
    assert len(list(settings.work_folder.glob("*/epoch.pt"))) == 1
    job_id = service.submit(spec)
    assert stage(service, job_id, "Round")[:7] in ("Round 3", "Round 4", "Round 5")
    assert service.wait_for(job_id, "succeeded")["result"]["epochs"] == 5
    assert [path.name for path in (settings.home / "models").iterdir()] == ["kinds"]
    assert not list(settings.work_folder.glob("*/epoch.pt"))


def test_a_cancelled_training_keeps_its_best_epoch(service, spec, settings) -> None:
    job_id = service.submit(spec.model_copy(update={"epochs": 500}))
    stage(service, job_id, "Round 2")
    service.post(f"/jobs/{job_id}/cancel", {})
    result = service.wait_for(job_id, "succeeded")["result"]
    assert [problem["code"] for problem in result["warnings"]] == ["stopped_early"]
    assert 2 <= result["epochs"] < 500 and result["accuracy"] is not None
    assert read_card(settings.home / "models" / result["model"]["id"]).title == "Kinds"
