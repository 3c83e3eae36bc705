"""A service in a process of its own, and a client for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from mmearth.api import RasterInput, SegmentOutputs, SegmentSpec

TOKEN = "secret-of-this-test"


class Service:
    """Starts ``python -m mmearth serve`` as the plugin does."""

    def __init__(self, home: Path, *arguments: str, **variables: str) -> None:
        environment = {
            **os.environ,
            "MMEARTH_HOME": str(home),
            "MMEARTH_TOKEN": TOKEN,
            "MMEARTH_THREADS": "1",
            **variables,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-s", "-u", "-m", "mmearth", "serve", *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.stderr.read())
        self.hello = json.loads(line)
        self.url = f"http://127.0.0.1:{self.hello['port']}"
        self.http = httpx.Client(
            base_url=f"{self.url}/v1",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=20,
            trust_env=False,
        )

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    def get(self, path: str) -> dict:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: dict) -> dict:
        answer = self.http.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def submit(self, spec) -> str:
        return self.post("/jobs", spec.model_dump(mode="json"))["id"]

    def wait_for(self, job_id: str, state: str, seconds: float = 60) -> dict:
        """Wait until a job is in a state; any other end is an error."""
        for _ in wait(seconds):
            job = self.get(f"/jobs/{job_id}")
            if job["state"] == state:
                return job
            assert job["state"] in ("queued", "running"), job
        raise AssertionError(f"not {state} in time: {job}")

    def worker_pid(self) -> int:
        """Return the process number of the worker."""
        import psutil

        for _ in wait(20):
            children = psutil.Process(self.process.pid).children()
            if children:
                return children[0].pid
        raise AssertionError("no worker")


def make_spec(path, tmp_path) -> SegmentSpec:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    return SegmentSpec(
        inputs=[RasterInput(path=str(path), label="")],
        model="tiny",
        outputs=SegmentOutputs(classes=str(out / "map.tif"), table=str(out / "areas.csv")),
    )


def wait(seconds: float):
    """Yield now and then until the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.05)


def gone(pid: int, seconds: float = 10) -> bool:
    """Tell whether a process ends in time."""
    import psutil

    for _ in wait(seconds):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
    return False
