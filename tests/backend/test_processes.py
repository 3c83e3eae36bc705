"""Processes are told apart for good, and take turns."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import psutil
import pytest

from mmearth.errors import DiskFullError
from mmearth.jobs.work import Work
from mmearth.processes import is_alive, process_stamp


def test_a_stamp_lives_as_long_as_its_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stamp = process_stamp(process.pid)
    assert is_alive(stamp) and stamp != process_stamp()
    process.kill()
    assert process.wait() and not is_alive(stamp)
    process.stdin.close()
    with pytest.raises(ProcessLookupError):
        process_stamp(process.pid)


@pytest.mark.parametrize("stamp", ["", "nonsense", "1", "{pid} 7.00", "0 0", "-1 2"])
def test_other_stamps_are_of_the_dead(stamp) -> None:
    assert not is_alive(stamp.format(pid=os.getpid()))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the start is kept as a time")
def test_setting_the_clock_kills_nobody(monkeypatch) -> None:
    stamp, created = process_stamp(), psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + 3600)
    assert process_stamp() == stamp and is_alive(stamp)


def test_only_one_takes_over_from_the_dead(tmp_path) -> None:
    """Not provable by trying, but two at once were found by trying."""
    processes = 6
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(processes), context.Queue()
    children = [
        context.Process(target=_claim, args=(tmp_path, barrier, answers)) for _ in range(processes)
    ]
    for child in children:
        child.start()
    owned = [answers.get(timeout=100) for _ in children]
    for child in children:
        child.join()
    assert [sum(turns) for turns in zip(*owned, strict=True)] == [1] * TURNS


def test_full_disk_of_unfinished_work_is_said(tmp_path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        (tmp_path / "ballast").write_bytes(bytes(4 * 4096))
        with pytest.raises(DiskFullError, match="unfinished work is full"):
            Work(tmp_path / "work" / "1", {})
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


TURNS = 20


def _claim(folder, barrier, answers) -> None:
    owned = []
    for turn in range(TURNS):
        work = folder / "work" / str(turn)
        work.mkdir(parents=True, exist_ok=True)
        (work / "owner").write_text("999999 1.00")
        barrier.wait(60)
        mine = Work(work, {})
        owned.append(mine.folder == work)
        barrier.wait(60)
    answers.put(owned)
