"""What the loop does whatever the method is: schedule, trouble with files, several processes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest
import torch
from pretexts import STEPS, Stop, Toy, apart, build, recipe, same

from mmearth.errors import JobCancelled, MissingExtraError, OutputError
from mmearth.pretraining.loop import LOG_NAME, fit
from mmearth.training import checkpoint
from mmearth.training.task import Watch

NAME = "mae"


def cancelled(folder, **fields) -> None:
    """Leave a run behind that was cancelled after seven steps."""
    data = Toy()
    with pytest.raises(JobCancelled):
        fit(build(NAME, data), data, recipe(NAME, **fields), folder, Stop(7).watch())


def resumed(folder, name=NAME, **fields):
    """Go on; return where it began, the outcome and the network."""
    data, seen = Toy(), []
    watch = Watch(lambda progress, stage, eta: seen.append(round(progress * STEPS)))
    pretext = build(name, data)
    outcome = fit(pretext, data, recipe(name, **fields), folder, watch)
    return seen[0], outcome, pretext


def test_a_damaged_state_is_said(tmp_path) -> None:
    cancelled(tmp_path)
    path = tmp_path / checkpoint.NAME
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    begun, outcome, _ = resumed(tmp_path)
    assert begun == 1
    assert [one.message for one in outcome.warnings] == [
        "What an earlier run had kept is damaged; this one begins anew."
    ]


def test_a_state_of_another_network_is_said(tmp_path) -> None:
    cancelled(tmp_path)
    begun, outcome, _ = resumed(tmp_path, "mp-mae")
    assert begun == 1 and "does not fit" in outcome.warnings[0].message


def test_a_run_that_goes_on_elsewhere_says_so(tmp_path) -> None:
    cancelled(tmp_path)
    begun, outcome, _ = resumed(tmp_path, mixed=True)
    assert begun == 8
    assert "bfloat16 was False, is True" in outcome.warnings[0].message


def test_bfloat16_learns_and_goes_on_bit_by_bit(tmp_path) -> None:
    _, outcome, whole = resumed(tmp_path / "whole", mixed=True)
    assert outcome.rows[-1].loss < 0.9 * outcome.rows[0].loss
    cancelled(tmp_path / "again", mixed=True)
    begun, again, pretext = resumed(tmp_path / "again", mixed=True)
    assert begun == 8 and same(pretext, whole) and again.rows == outcome.rows


def test_what_cannot_be_kept_does_not_end_it(tmp_path) -> None:
    data = Toy()

    def lose(progress, stage, eta) -> None:
        if (tmp_path / checkpoint.NAME).is_file():
            (tmp_path / checkpoint.NAME).unlink()
            (tmp_path / checkpoint.NAME).mkdir()  # in whose place no file can come

    outcome = fit(build(NAME, data), data, recipe(NAME, keep=0.0), tmp_path, Watch(lose))
    assert outcome.rows[-1].step == STEPS
    (warning,) = outcome.warnings
    assert "could not be kept to go on from" in warning.message
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_log_that_cannot_be_written_is_said(tmp_path) -> None:
    data = Toy()
    (tmp_path / LOG_NAME).mkdir()
    with pytest.raises(OutputError, match=rf"{LOG_NAME} could not be written"):
        fit(build(NAME, data), data, recipe(NAME), tmp_path, Watch())


def test_files_of_tensorboard(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data, events = Toy(), tmp_path / "events"
    with pytest.raises(JobCancelled):
        fit(build(NAME, data), data, recipe(NAME), tmp_path, Stop(7).watch(), events=events)
    outcome = fit(
        build(NAME, data), data, recipe(NAME), tmp_path, Watch(), held=Toy(), events=events
    )
    found = EventAccumulator(str(events)).Reload()
    for name, value in (("loss", "loss"), ("learning rate", "learning_rate")):
        scalars = found.Scalars(name)
        assert [one.step for one in scalars] == [row.step for row in outcome.rows]
        expected = [getattr(row, value) for row in outcome.rows]
        assert [one.value for one in scalars] == pytest.approx(expected)
    held = found.Scalars("held back/sentinel-2")
    assert [one.step for one in held] == [row.step for row in outcome.rows if row.held]


SCRIPT = """
import sys; from pathlib import Path
sys.path[:0] = sys.argv[2:]
from pretexts import *
from mmearth.errors import InputError, JobCancelled
from mmearth.pretraining.group import joined
from mmearth.pretraining.loop import fit
folder = Path(sys.argv[1])
with joined() as group:
    assert group.size == 2
    try:
        build("moco", Toy(), batch=4, accumulate=2)  # one image of a part in each process
    except InputError as error:
        (folder / f"refused.{group.rank}").write_text(str(error))
    for name in ("mp-mae", "moco"):
        whole, fields = name == "mp-mae", {"accumulate": 2} if name == "mp-mae" else {}
        data, pretext = Toy(), build(name, Toy(), weights=group.rank)
        numbers = recipe(name, **fields)
        if whole:  # cancelled in one process alone, then taken up again
            stop = Stop(7 if group.rank else 99)
            try:
                fit(pretext, data, numbers, folder / name, stop.watch(), group=group)
            except JobCancelled:
                pretext = build(name, Toy(), weights=2 + group.rank)
        outcome = fit(
            pretext, data, numbers, folder / name, Watch(), held=Toy(), group=group
        )
        found = (pretext.state_dict(), [vars(row) for row in outcome.rows])
        torch.save(found, folder / f"{name}.{group.rank}")
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Return a folder of what two processes have learned together, started by torchrun."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "learn.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
        "--master-addr", "127.0.0.1", "--master-port", str(port),
        str(folder / "learn.py"), str(folder), *filter(None, sys.path),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_two_processes_learn_what_one_would(shared, tmp_path) -> None:
    data = Toy()
    alone, untaught = build("mp-mae", data), build("mp-mae", data)
    rows = fit(alone, data, recipe("mp-mae"), tmp_path, Watch(), held=Toy()).rows
    states = [torch.load(shared / f"mp-mae.{rank}") for rank in range(2)]
    together = build("mp-mae", data, weights=9)
    for state, _ in states:
        together.load_state_dict(state)
        assert apart(together, alone) < 1e-4 < apart(untaught, alone)
    (_, first), (_, second) = states
    for row, expected in zip(first, rows, strict=True):
        assert row["losses"] == pytest.approx(expected.losses, rel=1e-3)
        assert row["spread"] == pytest.approx(expected.spread, rel=1e-3)
    assert [row["losses"] for row in second] == [row["losses"] for row in first]
    # The first alone wrote the log, of which the cancelled run is a part.
    logged = (shared / "mp-mae" / LOG_NAME).read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == [row.step for row in rows]


def test_processes_need_several_images_each_to_normalise_by(shared) -> None:
    for rank in range(2):
        assert "parts of one image are none" in (shared / f"refused.{rank}").read_text()


def test_two_processes_have_one_queue(shared) -> None:
    (ours, _), (theirs, _) = (torch.load(shared / f"moco.{rank}") for rank in range(2))
    assert torch.equal(ours["queue"], theirs["queue"])
    assert ours["place"] == theirs["place"] == 0
    norms = ours["queue"].norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_without_tensorboard_it_is_said_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    data = Toy()
    with pytest.raises(MissingExtraError, match="pip install tensorboard"):
        fit(build(NAME, data), data, recipe(NAME), tmp_path, Watch(), events=tmp_path / "events")
