"""Many calls at once: their results, their errors, and no process that is left over."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time

import psutil
import pytest

from mmearth.errors import JobCancelled, WorkerDiedError
from mmearth.jobs.parallel import each


def never() -> None:
    """Let it go on."""


@pytest.mark.parametrize("processes", [1, 2])
def test_results_and_errors_reach_the_caller(processes) -> None:
    found = dict(each(math.sqrt, [(4.0,), (9.0,), (16.0,)], processes, never))
    assert found == {0: 2.0, 1: 3.0, 2: 4.0}
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(each(math.sqrt, [(4.0,), (-1.0,)], processes, never))


def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(WorkerDiedError, match="ended unexpectedly"):
        list(each(os._exit, [(1,), (1,)], 2, never))


def test_cancelling_ends_the_processes() -> None:
    def stop() -> None:
        if len(psutil.Process().children()) > before:
            raise JobCancelled("Cancelled.")

    before = len(psutil.Process().children())
    with pytest.raises(JobCancelled):
        list(each(time.sleep, [(0.1,)] * 1000, 2, stop))
    workers = [one for one in psutil.Process().children() if "resource_tracker" not in _said(one)]
    assert len(workers) <= before


def _said(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def test_processes_end_with_one_that_is_killed(tmp_path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\n"
        "from mmearth.jobs.parallel import each\n"
        "if __name__ == '__main__':\n"
        "    for _ in each(time.sleep, [(0,), (0,), (600,), (600,)], 2, lambda: None):\n"
        "        print('begun', flush=True)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout and parent.stdout.readline() and parent.stdout.readline()
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
