"""Images hang on their numbers alone, not on who draws them when."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from pretexts import Toy, build

from mmearth.pretraining.drawing import Drawing, joined, threads
from mmearth.pretraining.group import Group

SEED, BATCH = 3, 8


def steps(pretext, pool, *, parts=2, group=None, count=3):
    drawing = Drawing(
        pretext,
        Toy(),
        batch=BATCH,
        parts=parts,
        seed=SEED,
        group=group or Group(),
        device=torch.device("cpu"),
        pool=pool,
    )
    return [drawing.step(number, last=number + 1 == count) for number in range(count)]


def equal(ours, theirs) -> bool:
    same = [torch.equal(ours[key].nan_to_num(9), theirs[key].nan_to_num(9)) for key in ours]
    return ours.keys() == theirs.keys() and all(same)


@pytest.mark.parametrize("name", ["dino", "moco", "mp-mae"])
@pytest.mark.parametrize("workers", [1, 3])
def test_many_threads_draw_what_one_would(name, workers) -> None:
    pretext = build(name, Toy())
    expected = [
        joined(
            [
                pretext.draw(Toy(), 1, np.random.default_rng([SEED, step, number]))
                for number in range(BATCH)
            ]
        )
        for step in range(3)
    ]
    with ThreadPoolExecutor(workers) as pool:
        drawn = steps(pretext, pool)
    assert [len(parts) for parts in drawn] == [2, 2, 2]
    for parts, whole in zip(drawn, expected, strict=True):
        assert equal(joined(parts), whole)
    assert not equal(expected[0], expected[1])


def test_images_of_a_step_are_drawn_at_once() -> None:
    """Each waits until another is drawn as well: one thread alone would never end."""
    meeting = threading.Barrier(2)
    pretext = build("moco", Toy())
    draw = pretext.draw

    def met(data, count, random):
        meeting.wait(timeout=60)
        return draw(data, count, random)

    pretext.draw = met
    with ThreadPoolExecutor(2) as pool:
        assert len(steps(pretext, pool)) == 3


def test_what_cannot_be_drawn_is_said() -> None:
    def fail(batch) -> None:
        raise OSError("gone")

    pretext = build("moco", Toy())
    with ThreadPoolExecutor(2) as pool:
        drawing = Drawing(
            pretext, Toy(fail), batch=BATCH, parts=1, seed=SEED,
            device=torch.device("cpu"), pool=pool,
        )  # fmt: skip
        with pytest.raises(OSError, match="gone"):
            drawing.step(0, last=True)


def test_processes_share_the_processors(monkeypatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    for processes, expected in ((None, 8), ("2", 6), ("64", 1)):
        if processes:
            monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        with threads() as pool:
            assert pool._max_workers == expected
