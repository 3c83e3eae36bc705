"""Unfinished training is written whole or not at all."""

from __future__ import annotations

import pytest
import torch

from mmearth.errors import is_disk_full
from mmearth.training import checkpoint

CPU = torch.device("cpu")


def test_what_was_written_is_read(tmp_path) -> None:
    assert checkpoint.read(tmp_path, CPU) is None
    checkpoint.write(tmp_path / "work", {"best": 3, "learned": {"a": torch.arange(4.0)}})
    state = checkpoint.read(tmp_path / "work", CPU)
    assert state["best"] == 3 and torch.equal(state["learned"]["a"], torch.arange(4.0))


def test_a_full_disk_keeps_the_epoch_before(small_disk) -> None:
    checkpoint.write(small_disk, {"best": 1})
    with pytest.raises((OSError, RuntimeError)) as caught:
        checkpoint.write(small_disk, {"best": 2, "learned": torch.zeros(10**6)})
    assert is_disk_full(caught.value)
    assert checkpoint.read(small_disk, CPU) == {"best": 1}
    assert [path.name for path in small_disk.iterdir()] == ["epoch.pt"]


def test_code_is_not_run(tmp_path) -> None:
    class Hostile:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"best": Hostile()}, tmp_path / "epoch.pt")
    assert checkpoint.read(tmp_path, CPU) is None
    assert not (tmp_path / "ran").exists()
