"""The service as a real process: what it does, and how it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
from fastapi.testclient import TestClient
from scenes import S2, scene_values

from mmearth.api import InstallSpec, SegmentSpec
from mmearth.errors import JobCancelled
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import run_job
from mmearth.service.app import create_app
from mmearth.service.store import JobStore
from mmearth.service.supervisor import Supervisor
from service.client import TOKEN, Service, gone, make_spec, wait


@pytest.fixture
def service(settings):
    with Service(settings.home) as running:
        yield running


@pytest.fixture
def spec(scene, tmp_path) -> SegmentSpec:
    return make_spec(scene, tmp_path)


@pytest.fixture
def long_spec(make_raster, tmp_path) -> SegmentSpec:
    """A job of about half a minute."""
    path = make_raster("long.tif", scene_values(3000, 1500), bands=S2, nodata=0)
    return make_spec(path, tmp_path)


def half_way(service, job_id) -> None:
    for _ in wait(60):
        job = service.get(f"/jobs/{job_id}")
        assert job["state"] in ("queued", "running"), job
        if 0.1 < job["progress"] < 0.9:
            return
    raise AssertionError(job)


class TestRoutes:
    def test_what_nobody_foresaw_is_told_too(self, settings, monkeypatch) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("mmearth.service.app.plan_job", broken)
        settings = settings.model_copy(update={"token": TOKEN})
        store = JobStore(settings.jobs_folder, settings.work_folder)
        app = create_app(settings, Supervisor(settings, store))
        with TestClient(app, "http://127.0.0.1:80", raise_server_exceptions=False) as client:
            answer = client.post(
                "/v1/plan",
                json={"kind": "segment", "inputs": [], "model": "tiny"},
                headers={"Authorization": f"Bearer {TOKEN}", "Host": "127.0.0.1:80"},
            )
        assert answer.status_code == 500
        assert "log file" in answer.json()["error"]["advice"]

    def test_job_of_another_window_is_not_cancelled(self, service, long_spec, settings) -> None:
        job_id = service.submit(long_spec)
        with Service(settings.home) as other:
            answer = other.http.post(f"/jobs/{job_id}/cancel", json={})
            assert answer.status_code == 409
            assert "another QGIS window" in answer.json()["error"]["message"]

    def test_job_from_beginning_to_end(self, service, spec) -> None:
        job_id = service.submit(spec)
        assert service.http.get(f"/jobs/{job_id}/results").status_code == 409
        job = service.wait_for(job_id, "succeeded")
        assert job["progress"] == 1
        assert service.get(f"/jobs/{job_id}/results") == job["result"]
        with rasterio.open(job["result"]["outputs"]["classes"]) as dataset:
            assert np.count_nonzero(dataset.read(1)) == sum(
                row["pixels"] for row in job["result"]["classes"]
            )
        assert [listed["id"] for listed in service.get("/jobs")["jobs"]] == [job_id]

    def test_jobs_wait_for_each_other(self, service, spec) -> None:
        first, second = service.submit(spec), service.submit(spec)
        service.wait_for(second, "succeeded")
        assert service.get(f"/jobs/{first}")["state"] == "succeeded"

    def test_failed_job_says_why(self, service, spec) -> None:
        job_id = service.submit(spec.model_copy(update={"model": "absent"}))
        job = service.wait_for(job_id, "failed")
        assert "absent" in job["error"]["message"]
        assert service.get("/health")["status"] == "ok"

    def test_records_outlive_the_service(self, service, spec, settings) -> None:
        job_id = service.submit(spec)
        job = service.wait_for(job_id, "succeeded")
        with Service(settings.home) as other:
            assert other.get(f"/jobs/{job_id}") == job


@pytest.fixture
def own(settings, tiny_model):
    """A service whose only model, tiny, is an embedded one; with "mine" as the user's own."""
    (settings.home / "models").unlink()
    mine = shutil.copytree(tiny_model.folder, settings.home / "models" / "mine")
    card = (mine / "model.json").read_text("utf-8").replace('"id": "tiny"', '"id": "mine"')
    (mine / "model.json").write_text(card, "utf-8")
    embedded = {"MMEARTH_MODELS": str(tiny_model.folder.parent)}
    with Service(settings.home, MMEARTH_PROXY="http://anna:pearl@127.0.0.1:9", **embedded) as own:
        yield own


class TestModels:
    ENCODER = "ssl4eo-resnet18-all-moco"

    def test_published_ones_are_listed(self, own, settings) -> None:
        found = {model["id"]: model for model in own.get("/published")["models"]}
        assert len(found) > 20
        encoder = found[self.ENCODER]
        assert encoder["access"] == "download" and encoder["levels"] == ["L1C"]
        assert encoder["file"].endswith(".pth") and encoder["installed"] == []
        folder = (settings.home / "models" / "mine").rename(settings.home / "models" / "x")
        card = (folder / "model.json").read_text("utf-8").replace('"mine"', f'"{self.ENCODER}"')
        (folder / "model.json").write_text(card, "utf-8")
        found = {model["id"]: model for model in own.get("/published")["models"]}
        assert found[self.ENCODER]["installed"] == [self.ENCODER]

    def test_own_ones_are_removed_and_no_others(self, own, settings) -> None:
        ids = {model["id"] for model in own.get("/models")["models"]}
        assert {"mine", "tiny"} <= ids
        answer = own.http.delete("/models/mine")
        assert answer.status_code == 200
        assert {model["id"] for model in answer.json()["models"]} == ids - {"mine"}
        assert list((settings.home / "models").iterdir()) == []
        for identifier, words in {"tiny": "comes with", "mine": "No model", "..": ""}.items():
            answer = own.http.delete(f"/models/{identifier}")
            assert answer.status_code >= 400 and words in answer.json()["error"]["message"]

    def test_those_in_use_are_not_removed(self, own, long_spec, settings) -> None:
        job_id = own.submit(long_spec.model_copy(update={"model": "mine"}))
        answer = own.http.delete("/models/mine")
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "model_in_use"
        with Service(settings.home) as other:  # in a second window neither
            assert other.http.delete("/models/mine").status_code == 409
        own.post(f"/jobs/{job_id}/cancel", {})
        own.wait_for(job_id, "cancelled")
        assert own.http.delete("/models/mine").status_code == 200

    def test_a_proxys_password_is_nowhere(self, own, settings) -> None:
        spec = InstallSpec(published=self.ENCODER, accept_licence=True)
        assert own.post("/plan", spec.model_dump(mode="json"))["errors"] == []
        job = own.wait_for(own.submit(spec), "failed")
        assert "through the proxy" in job["error"]["message"]
        written = [path.read_text() for path in settings.home.rglob("*.json")]
        written += [path.read_text() for path in settings.logs_folder.iterdir()]
        assert len(written) > 2 and "pearl" not in "".join([*written, str(job)])
        assert "pearl" not in str(own.get("/info"))


class TestCancel:
    def test_running_job_stops_within_two_seconds(self, service, long_spec, tmp_path) -> None:
        job_id = service.submit(long_spec)
        half_way(service, job_id)
        begin = time.monotonic()
        service.post(f"/jobs/{job_id}/cancel", {})
        service.wait_for(job_id, "cancelled")
        assert time.monotonic() - begin < 2
        assert list((tmp_path / "out").iterdir()) == []

    def test_waiting_job_never_runs(self, service, long_spec, spec) -> None:
        first = service.submit(long_spec)
        second = service.submit(spec)
        service.post(f"/jobs/{second}/cancel", {})
        assert service.get(f"/jobs/{second}")["state"] == "cancelled"
        assert service.get(f"/jobs/{first}")["state"] in ("queued", "running")

    def test_finished_job_stays_finished(self, service, spec) -> None:
        job_id = service.submit(spec)
        service.wait_for(job_id, "succeeded")
        assert service.post(f"/jobs/{job_id}/cancel", {})["state"] == "succeeded"


@pytest.fixture
def slow_to_write(make_raster, tmp_path, settings) -> SegmentSpec:
    """A job that is mapped already, and whose million polygons take long to write."""
    path = make_raster("noise.tif", scene_values(1200, 1200), bands=S2, nodata=0)
    spec = make_spec(path, tmp_path)
    spec.outputs.polygons = str(tmp_path / "out" / "areas.gpkg")
    tiles = []
    context = JobContext(settings, lambda *report: tiles.append(report), lambda: len(tiles) > 2)
    with pytest.raises(JobCancelled):
        run_job(spec, context)
    (work,) = settings.work_folder.iterdir()
    random = np.random.default_rng(0)
    for name in ("classes", "confidence"):
        with rasterio.open(work / f"{name}.tif", "r+") as dataset:
            dataset.write(random.integers(1, 4, (1, 1200, 1200), np.uint8))
    (work / "rows_done").write_text("1200")
    for result in ("map.tif", "areas.csv", "areas.gpkg"):
        (tmp_path / "out" / result).write_text("yesterday's")
    return spec


def writing(folder) -> None:
    """Wait until polygons are being written; the new map is then complete."""
    for _ in wait(60):
        if list(folder.glob(".mmearth-*/.areas.*.gpkg")):
            assert list(folder.glob(".mmearth-*/map.tif"))
            return
    raise AssertionError(list(folder.iterdir()))


def all_is_as_it_was(folder) -> bool:
    found = {path.name: path.is_file() and path.read_text() for path in folder.iterdir()}
    return found == dict.fromkeys(("map.tif", "areas.csv", "areas.gpkg"), "yesterday's")


@pytest.fixture
def small_disk(settings):
    """Settings whose job records lie on a disk of 64 kB, and a function that fills and frees it."""
    settings.jobs_folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(settings.jobs_folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting needs root")

    def fill(full: bool) -> None:
        ballast = settings.jobs_folder / "ballast"
        if not full:
            return ballast.unlink()
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    yield fill
    subprocess.run(["umount", "--lazy", str(settings.jobs_folder)], check=True)


class TestFullDisk:
    """Of the job records."""

    def test_submitting_is_answered_in_words(self, small_disk, service, spec) -> None:
        small_disk(True)
        answer = service.http.post("/jobs", json=spec.model_dump(mode="json"))
        assert answer.status_code == 507
        assert "full" in answer.json()["error"]["message"]

    def test_the_queue_goes_on(self, small_disk, service, spec) -> None:
        first, second = service.submit(spec), service.submit(spec)
        small_disk(True)  # while the first one's process starts
        service.wait_for(first, "succeeded")
        job = service.wait_for(second, "failed")
        assert job["error"]["code"] == "disk_full"
        small_disk(False)
        service.wait_for(service.submit(spec), "succeeded")


class TestEndsWhileWriting:
    """Old results stay, and nothing hidden is left among them."""

    def test_cancelled(self, service, slow_to_write, tmp_path) -> None:
        job_id = service.submit(slow_to_write)
        writing(tmp_path / "out")
        service.post(f"/jobs/{job_id}/cancel", {})
        service.wait_for(job_id, "cancelled")
        assert all_is_as_it_was(tmp_path / "out")

    def test_worker_killed(self, service, slow_to_write, tmp_path) -> None:
        job_id = service.submit(slow_to_write)
        writing(tmp_path / "out")
        os.kill(service.worker_pid(), signal.SIGKILL)
        service.wait_for(job_id, "failed")
        assert all_is_as_it_was(tmp_path / "out")

    def test_service_killed(self, service, slow_to_write, settings, tmp_path) -> None:
        service.submit(slow_to_write)
        writing(tmp_path / "out")
        worker = service.worker_pid()
        service.process.kill()
        service.process.wait()
        assert gone(worker)
        with Service(settings.home):
            assert all_is_as_it_was(tmp_path / "out")


class TestDeaths:
    def test_killed_worker_is_told_and_the_next_run_goes_on(
        self, service, long_spec, tmp_path, settings
    ) -> None:
        job_id = service.submit(long_spec)
        half_way(service, job_id)
        os.kill(service.worker_pid(), signal.SIGKILL)
        job = service.wait_for(job_id, "failed")
        assert job["error"]["code"] == "out_of_memory"
        assert "killed" in job["error"]["message"]
        assert list((tmp_path / "out").iterdir()) == []
        (state,) = settings.work_folder.glob("*/rows_done")
        done = int(state.read_text())
        again = service.submit(long_spec)
        for _ in wait(30):
            job = service.get(f"/jobs/{again}")
            if job["progress"] > 0:
                break
        assert job["progress"] > 0.5 * done / 3000  # it did not begin anew
        service.post(f"/jobs/{again}/cancel", {})

    def test_crashing_worker_is_told(self, service, long_spec) -> None:
        job_id = service.submit(long_spec)
        half_way(service, job_id)
        os.kill(service.worker_pid(), signal.SIGSEGV)
        job = service.wait_for(job_id, "failed")
        assert job["error"]["code"] == "worker_died" and "-11" in job["error"]["message"]

    def test_worker_killed_in_the_middle_of_a_line(
        self, settings, spec, tmp_path, monkeypatch
    ) -> None:
        """A process that ends while it writes stands in for the worker."""
        worker = tmp_path / "worker"
        worker.write_text('#!/bin/sh\nread line\nprintf \'{"event": "prog\'\nexit 3\n')
        worker.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(worker))
        supervisor = Supervisor(settings, JobStore(settings.jobs_folder, settings.work_folder))
        job = supervisor.submit(spec)
        for _ in wait(10):
            if supervisor.get(job.id).state.over:
                break
        supervisor.close()
        error = supervisor.get(job.id).error
        assert error and error.code == "worker_died" and "exit code 3" in error.message

    def test_killed_service_takes_its_worker_along(
        self, service, long_spec, settings, tmp_path
    ) -> None:
        job_id = service.submit(long_spec)
        half_way(service, job_id)
        worker = service.worker_pid()
        service.process.kill()
        service.process.wait()
        assert gone(worker)
        assert list((tmp_path / "out").iterdir()) == []
        with Service(settings.home) as other:
            job = other.get(f"/jobs/{job_id}")
            assert job["state"] == "failed" and job["error"]["code"] == "interrupted"
            again = other.submit(long_spec)
            half_way(other, again)

    def test_ends_when_its_input_does(self, service, long_spec) -> None:
        half_way(service, service.submit(long_spec))
        worker = service.worker_pid()
        service.process.stdin.close()
        assert service.process.wait(10) == 0
        assert gone(worker)

    def test_ends_with_its_parent_even_if_the_pipe_stays_open(self, settings) -> None:
        parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        with Service(settings.home, "--parent-pid", str(parent.pid)) as service:
            parent.kill()
            parent.wait()
            assert service.process.wait(10) == 0
        parent.stdin.close()

    def test_ends_when_told(self, service) -> None:
        service.post("/shutdown", {})
        assert service.process.wait(10) == 0

    def test_ends_when_unused(self, settings) -> None:
        with Service(settings.home, MMEARTH_IDLE_MINUTES="0.03") as service:
            assert service.process.wait(15) == 0

    def test_two_at_once(self, service, settings, spec, tmp_path) -> None:
        """Two QGIS windows: each has its own service, port and worker, and one folder."""
        with Service(settings.home) as other:
            assert other.hello["port"] != service.hello["port"]
            first = service.submit(spec)
            elsewhere = make_spec(spec.inputs[0].path, tmp_path)
            elsewhere.outputs.classes = str(tmp_path / "out" / "other.tif")
            elsewhere.outputs.table = None
            second = other.submit(elsewhere)
            service.wait_for(first, "succeeded")
            other.wait_for(second, "succeeded")
            assert {job["id"] for job in other.get("/jobs")["jobs"]} == {first, second}


def test_port_is_free_again(settings) -> None:
    with Service(settings.home) as service:
        port = service.hello["port"]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
