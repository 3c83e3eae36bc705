"""Mapping on a real Dask cluster of two processes: as here, whatever becomes of its workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import distributed
import numpy as np
import pytest
import rasterio
from pydantic import ValidationError
from scenes import S2, scene_values

from mmearth.api import RasterInput, SegmentOutputs, SegmentSpec
from mmearth.errors import ClusterError, JobCancelled, MissingExtraError
from mmearth.jobs import cluster as jobs_cluster
from mmearth.jobs.cluster import tile_row
from mmearth.jobs.context import JobContext
from mmearth.jobs.mapping import fingerprint
from mmearth.jobs.prepare import prepare
from mmearth.jobs.registry import run_job

RESULTS = ("classes", "confidence", "probabilities")


@dataclass
class Cluster:
    """A scheduler and its workers, each a process of its own."""

    address: str
    environment: dict[str, str]
    workers: list[subprocess.Popen] = field(default_factory=list)

    def add_worker(self) -> None:
        self.workers.append(
            _dask(self.environment, "worker", self.address, "--nthreads=1", "--no-nanny")
        )

    def client(self) -> distributed.Client:
        return distributed.Client(self.address, timeout=30, set_as_default=False)

    def alive(self) -> list[subprocess.Popen]:
        return [worker for worker in self.workers if worker.poll() is None]


def _dask(environment: dict[str, str], *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments, "--no-dashboard"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tiny_model, tmp_path_factory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    environment = {
        **os.environ,
        "MMEARTH_HOME": str(tiny_model.folder.parents[1]),
        "MMEARTH_DEVICE": "cpu",
        "DASK_TEMPORARY_DIRECTORY": str(folder),
    }
    file = folder / "scheduler.json"
    scheduler = _dask(
        environment, "scheduler", "--host=127.0.0.1", "--port=0", f"--scheduler-file={file}"
    )
    started: list[subprocess.Popen] = []
    try:
        while not file.exists():
            assert scheduler.poll() is None
            time.sleep(0.05)
        found = Cluster(json.loads(file.read_text())["address"], environment, started)
        yield found
    finally:
        for process in [*started, scheduler]:
            process.kill()
            process.wait()


@pytest.fixture
def two_workers(cluster) -> Cluster:
    return _at_least(cluster, 2)


@pytest.fixture
def a_worker(cluster) -> Cluster:
    return _at_least(cluster, 1)


def _at_least(cluster: Cluster, count: int) -> Cluster:
    while len(cluster.alive()) < count:
        cluster.add_worker()
    with cluster.client() as client:
        client.wait_for_workers(count, timeout=300)
    return cluster


def spec_of(folder: Path, scene: Path, scheduler: str | None = None, **more) -> SegmentSpec:
    folder.mkdir(exist_ok=True)
    return SegmentSpec(
        inputs=[RasterInput(path=str(scene))],
        model="tiny",
        tile_size=32,
        outputs=SegmentOutputs(**{name: str(folder / f"{name}.tif") for name in RESULTS}),
        scheduler=scheduler,
        **more,
    )


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


def same(here: Path, there: Path) -> None:
    for name in RESULTS:
        np.testing.assert_array_equal(read(here / f"{name}.tif"), read(there / f"{name}.tif"))


def test_as_here_though_a_worker_is_killed(two_workers, settings, scene, out) -> None:
    here = run_job(spec_of(out / "here", scene), JobContext(settings))
    first = two_workers.workers[0]

    def kill_one(progress: float, stage: str, eta: float | None) -> None:
        if "tile" in stage and first.poll() is None:
            first.kill()
            first.wait()

    context = JobContext(settings, kill_one)
    there = run_job(spec_of(out / "there", scene, two_workers.address), context)
    assert first.poll() is not None and len(two_workers.alive()) == 1
    same(out / "here", out / "there")
    assert there.classes == here.classes and there.nodata_pixels == here.nodata_pixels > 0
    assert not any(settings.work_folder.iterdir())


def test_resampled_rasters_too(a_worker, settings, make_raster, out) -> None:
    scene = make_raster("fine.tif", scene_values(230, 210), bands=S2, nodata=0, pixel=4.0)
    run_job(spec_of(out / "here", scene), JobContext(settings))
    run_job(spec_of(out / "there", scene, a_worker.address), JobContext(settings))
    for name in RESULTS:
        here, there = (read(out / part / f"{name}.tif").astype(int) for part in ("here", "there"))
        assert (here != there).mean() < 0.001


def test_a_run_begun_there_goes_on_here(a_worker, settings, scene, out) -> None:
    run_job(spec_of(out / "here", scene), JobContext(settings))
    stop = []

    def after_some(progress: float, stage: str, eta: float | None) -> None:
        if progress > 0.3:
            stop.append(progress)

    context = JobContext(settings, after_some, lambda: bool(stop))
    spec = spec_of(out / "there", scene, a_worker.address)
    with pytest.raises(JobCancelled):
        run_job(spec, context)
    assert not any((out / "there").iterdir())
    with a_worker.client() as client:
        deadline = time.monotonic() + 30
        while any(client.processing().values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(client.processing().values())
    (kept,) = settings.work_folder.iterdir()
    assert int((kept / "rows_done").read_text()) > 0
    run_job(spec.model_copy(update={"scheduler": None}), JobContext(settings))
    same(out / "here", out / "there")


def test_a_worker_that_cannot_see_the_file(a_worker, settings, scene, out) -> None:
    spec = spec_of(out / "there", scene, a_worker.address)
    order = spec.model_dump_json(), fingerprint(prepare(spec, settings)), 0, 0
    scene.unlink()
    with a_worker.client() as client:
        task = client.submit(tile_row, {}, *order, pure=False)
        with pytest.raises(ClusterError, match=r"worker tcp://.* does not exist\..*same paths"):
            task.result()


def test_a_worker_of_another_version(a_worker) -> None:
    with a_worker.client() as client:
        task = client.submit(tile_row, {"torch": "1.0"}, "{}", "", 0, 0, pure=False)
        with pytest.raises(ClusterError, match=r"worker tcp://.* has torch 2.*this machine 1\.0"):
            task.result()


def test_other_files_than_here(a_worker, settings, scene, out) -> None:
    spec = spec_of(out / "there", scene, a_worker.address)
    order = spec.model_dump_json(), fingerprint(prepare(spec, settings)), 0, 0
    with a_worker.client() as client:
        columns, values, valid = client.submit(tile_row, {}, *order, pure=False).result()
        assert values.shape == (len(columns), 3, 32, 32) and valid.any()
        os.utime(scene, (0, 0))
        order = order[0], fingerprint(prepare(spec, settings)), 0, 0
        scene.touch()
        with pytest.raises(ClusterError, match="sees other rasters or another model"):
            client.submit(tile_row, {}, *order, pure=False).result()


def test_no_scheduler_and_no_workers(cluster, settings, scene, out, monkeypatch) -> None:
    monkeypatch.setattr(jobs_cluster, "CONNECT_SECONDS", 1.0)
    with pytest.raises(ClusterError, match="No Dask scheduler answers"):
        run_job(spec_of(out, scene, "tcp://127.0.0.1:9"), JobContext(settings))
    monkeypatch.setattr(jobs_cluster, "CONNECT_SECONDS", 10.0)
    monkeypatch.setattr(jobs_cluster, "IDLE_SECONDS", 0.5)
    for worker in cluster.alive():
        worker.kill()
        worker.wait()
    with pytest.raises(ClusterError, match=r"has no workers\..*dask worker"):
        run_job(spec_of(out, scene, cluster.address), JobContext(settings))
    assert not any(out.iterdir())


def test_without_what_speaks_with_clusters(settings, scene, out, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match="pip install distributed"):
        run_job(spec_of(out, scene, "tcp://127.0.0.1:9"), JobContext(settings))
    with pytest.raises(ValidationError, match="scheduler"):
        spec_of(out, scene, "http://127.0.0.1:9")
