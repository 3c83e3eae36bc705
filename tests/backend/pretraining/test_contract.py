"""Rules that every pretext method keeps."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from pretexts import FIELDS, STEPS, Stop, Toy, apart, build, recipe, same, spec

from mmearth.errors import InputError, JobCancelled, ModelError, TrainingError
from mmearth.models.card import read_card
from mmearth.pretraining.loop import LOG_NAME, fit
from mmearth.pretraining.model import save_encoder
from mmearth.pretraining.registry import METHODS
from mmearth.training.bases import build_base
from mmearth.training.design import load_base
from mmearth.training.task import Watch

# Rows of the log until what is aimed at has settled: a queue is filled, a centre found.
SETTLED = {"dino": 1, "moco": 1}
# In place of an encoder with batch norm, by which parts of a step are not what the whole is; with
# another optimiser goes another rate.
UNBATCHED = {"moco": ("vit-toy-p8", 1e-3)}
SELECTIVE = {
    "mp-mae": "resnet18",
    "mae": "resnet18",
}  # methods that teach encoders of one kind, and another kind


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function that trains a method once, to the end: data, pretext, rows, folder."""
    known = {}

    def train(name):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            data = Toy()
            pretext = build(name, data)
            outcome = fit(pretext, data, recipe(name), folder, Watch(), held=Toy())
            assert not outcome.warnings
            known[name] = data, pretext, outcome.rows, folder
        return known[name]

    return train


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Return a folder of what runs have left behind that were killed, one of each method."""
    folder = tmp_path_factory.mktemp("killed")
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "sys.path[:0] = sys.argv[2:]\n"
        "from pretexts import *\n"
        "from mmearth.pretraining.loop import fit\n"
        "def watch(progress, stage, eta):\n"
        "    if progress > 0.5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "for name in FIELDS:\n"
        "    if not os.fork():\n"
        "        data, folder = Toy(), Path(sys.argv[1]) / name\n"
        "        numbers = recipe(name, keep=0.0)\n"
        "        fit(build(name, data), data, numbers, folder, Watch(watch), held=Toy())\n"
        "    assert os.WTERMSIG(os.wait()[1]) == signal.SIGKILL\n"
    )
    command = [sys.executable, "-c", script, str(folder), *filter(None, sys.path)]
    subprocess.run(command, check=True)
    return folder


@pytest.mark.parametrize("name", METHODS)
class TestMethodContract:
    def test_learns(self, name, trained) -> None:
        _, _, rows, folder = trained(name)
        assert [row.step for row in rows] == list(range(4, STEPS + 1, 4))
        first = rows[SETTLED.get(name, 0)]
        assert rows[-1].loss < first.loss
        assert sum(rows[-1].losses.values()) < 0.9 * sum(first.losses.values())
        assert rows[-1].held.keys() == rows[-1].losses.keys()
        assert sum(rows[-1].held.values()) < sum(first.held.values())
        assert rows[-1].spread > 0.05
        logged = [json.loads(line) for line in (folder / LOG_NAME).read_text().splitlines()]
        assert [row["step"] for row in logged] == [row.step for row in rows]
        assert logged[-1]["loss"] == pytest.approx(rows[-1].loss, rel=1e-4)

    def test_goes_on_where_it_was_cancelled_bit_by_bit(self, name, trained, tmp_path) -> None:
        _, whole, rows, _ = trained(name)
        data, stop = Toy(), Stop(7)
        with pytest.raises(JobCancelled):
            fit(build(name, data), data, recipe(name), tmp_path, stop.watch(), held=Toy())
        resumed = build(name, data, weights=1)
        assert not same(resumed, build(name, data))
        seen = []
        watch = Watch(lambda progress, stage, eta: seen.append(progress))
        assert fit(resumed, data, recipe(name), tmp_path, watch, held=Toy()).rows == rows
        assert seen[0] == pytest.approx(8 / STEPS)
        assert same(resumed, whole)
        assert (tmp_path / LOG_NAME).read_text() == (trained(name)[3] / LOG_NAME).read_text()

    def test_a_killed_run_ends_with_the_same_weights(self, name, trained, killed) -> None:
        folder = killed / name
        assert len((folder / LOG_NAME).read_text().splitlines()) == 2
        data, seen = Toy(), []
        watch = Watch(lambda progress, stage, eta: seen.append(progress))
        resumed = build(name, data)
        rows = fit(resumed, data, recipe(name), folder, watch, held=Toy()).rows
        assert seen[0] > 0.5
        assert rows == trained(name)[2]
        assert same(resumed, trained(name)[1])

    def test_weights_are_a_base_for_every_other_job(self, name, trained, tmp_path) -> None:
        data, pretext, rows, _ = trained(name)
        save_encoder(tmp_path / "encoder", pretext, data, spec(name, tmp_path), recipe(name), rows)
        card = read_card(tmp_path / "encoder")
        assert card.task == "features" and card.bands == data.bands
        assert card.training["method"] == name and pretext.facts().items() <= card.training.items()
        base = load_base(card)[0]
        assert same(base.encoder, pretext.encoder)
        config, network = build_base(card, ["a", "b"], from_scratch=False, seed=0)
        assert config.decoder
        for key, value in network.encoder.state_dict().items():
            assert torch.equal(value, pretext.encoder.state_dict()[key])

    def test_a_collapse_is_noticed(self, name, tmp_path) -> None:
        data = Toy()
        pretext = build(name, data)
        # The encoder says the same of all images, and it is not nothing.
        with torch.no_grad():
            for part in pretext.encoder.parameters():
                part.fill_(1.0 if part.ndim == 1 else 0.0)
        with pytest.raises(TrainingError, match=r"collapsed by step 6: .* look alike"):
            fit(pretext, data, recipe(name, every=2, learning_rate=1e-9), tmp_path, Watch())
        batch = pretext.draw(data, 2, np.random.default_rng(0))
        features = pretext(batch).features
        assert features.norm(dim=1).min() > 0.1 and pretext.spread(features) < 1e-3

    def test_an_error_that_is_no_number_ends_it(self, name, tmp_path) -> None:
        def extreme(batch) -> None:
            batch["sentinel-2"][:] = 1e38

        data = Toy(extreme)
        with pytest.raises(TrainingError, match=r"astray in step 1: .*no longer a number"):
            fit(build(name, data), data, recipe(name), tmp_path, Watch())

    def test_other_options_are_refused(self, name) -> None:
        with pytest.raises(InputError, match=r"option dreams .*found 1\. Its options are"):
            build(name, Toy(), options={"dreams": 1})
        with pytest.raises(ModelError, match="nothing to learn"):
            build(name, Toy(), encoder="spectrum")


@pytest.mark.parametrize("name", METHODS)
def test_parts_of_a_step_make_up_the_whole(name, tmp_path) -> None:
    data, fields, rate = Toy(), {}, {}
    if name in UNBATCHED:
        fields["encoder"], rate["learning_rate"] = UNBATCHED[name]
    taught, logs = [], []
    for parts in (1, 4):
        taught.append(build(name, data, **fields))
        numbers = recipe(name, accumulate=parts, steps=6, every=2, **rate)
        folder = tmp_path / str(parts)
        logs.append(fit(taught[-1], data, numbers, folder, Watch(), held=Toy()).rows)
    assert apart(*taught) < 1e-4 < apart(taught[0], build(name, data, **fields))
    for row, expected in zip(*logs, strict=True):
        assert row.losses == pytest.approx(expected.losses, rel=1e-3)
        assert row.held == pytest.approx(expected.held, rel=1e-3)


@pytest.mark.parametrize("name", SELECTIVE)
def test_another_encoder_is_refused(name) -> None:
    with pytest.raises(ModelError, match=f"not {SELECTIVE[name]}"):
        build(name, Toy(), encoder=SELECTIVE[name])


def test_too_fast_a_training_ends(tmp_path) -> None:
    data = Toy()
    with pytest.raises(TrainingError, match=r"astray in step \d+: .*no longer a number"):
        fit(build("mp-mae", data), data, recipe("mp-mae", learning_rate=1e9), tmp_path, Watch())


def test_an_unknown_method() -> None:
    with pytest.raises(InputError, match=r"no pretraining method 'dream'.*mp-mae"):
        build("dream", Toy(), encoder="resnet18")


def test_every_method_is_tested() -> None:
    assert FIELDS.keys() == METHODS.keys()
