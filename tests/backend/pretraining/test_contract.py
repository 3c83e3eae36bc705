"""Rules that every pretext method keeps."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmearth.api import PretrainOutputs, PretrainSpec
from mmearth.errors import InputError, JobCancelled, ModelError, TrainingError
from mmearth.models.card import read_card
from mmearth.models.registry import build_encoder
from mmearth.pretraining.loop import LOG_NAME, Recipe, fit
from mmearth.pretraining.modality import UNKNOWN, Modality
from mmearth.pretraining.model import save_encoder
from mmearth.pretraining.registry import METHODS, build_method
from mmearth.training.bases import build_base
from mmearth.training.design import load_base
from mmearth.training.task import Watch

SIDE, BANDS = 24, ("B02", "B04", "B08")
STEPS = 16


class Toy:
    """Images of few colours, and four more quantities that follow from them.

    ``changes`` are made to every batch before it is given away.
    """

    modalities = (
        Modality("sentinel-2", "continuous", "pixel", 3, patch_norm=True),
        Modality("height", "continuous", "pixel", 1),
        Modality("cover", "categorical", "pixel", 2),
        Modality("climate", "continuous", "image", 2),
        Modality("biome", "categorical", "image", 2),
    )
    sensor, bands, levels, resolution_m = "sentinel-2", BANDS, ("L2A",), 10.0
    attribution, split, warnings, files = "Nobody.", "all", (), ()

    def __init__(self, change=lambda batch: None) -> None:
        from mmearth.models.parts import Normalisation

        self.normalisation = Normalisation(mean=(0.2,) * 3, std=(0.1,) * 3)
        self._change = change

    def __len__(self) -> int:
        return 100

    def draw(self, count, random):
        coarse = torch.from_numpy(random.normal(size=(count, 3, 4, 4)).astype(np.float32))
        colour = torch.from_numpy(random.normal(size=(count, 3, 1, 1)).astype(np.float32))
        image = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bilinear") + colour
        batch = {
            "sentinel-2": image,
            "height": image[:, :1] - image[:, 1:2],
            "cover": (image[:, 2] > 0).long(),
            "climate": colour[:, :2, 0, 0].clone(),
            "biome": (colour[:, 2, 0, 0] > 0).long(),
        }
        batch["sentinel-2"] = image.clone()
        batch["sentinel-2"][:, :, :3] = torch.nan
        batch["height"][0], batch["cover"][:, :3], batch["biome"][0] = torch.nan, UNKNOWN, UNKNOWN
        self._change(batch)
        return batch


def spec(name, folder=Path("/nowhere"), **fields) -> PretrainSpec:
    usual = {"encoder": "mmearth-zepto-p8", "decoder_width": 64, "crop": SIDE}
    outputs = PretrainOutputs(model=str(folder / "encoder"))
    return PretrainSpec(data="toy", method=name, outputs=outputs, **{**usual, **fields})


def build(name, data, **fields):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    request = spec(name, **fields)
    encoder = build_encoder(request.encoder, in_channels=len(BANDS))
    return build_method(encoder, data.modalities, request)


def recipe(**fields) -> Recipe:
    return Recipe(**{"steps": STEPS, "batch": 8, "learning_rate": 2e-3, "every": 4, **fields})


class Stop:
    """Cancels a run after so many steps."""

    def __init__(self, steps) -> None:
        self._left = steps

    def watch(self) -> Watch:
        return Watch(self._count, lambda: self._left <= 0)

    def _count(self, progress, stage, eta) -> None:
        self._left -= 1


def same(first, second) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function that trains a method once, to the end: data, pretext, rows, folder."""
    known = {}

    def train(name):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            data = Toy()
            pretext = build(name, data)
            known[name] = data, pretext, fit(pretext, data, recipe(), folder, Watch()), folder
        return known[name]

    return train


@pytest.mark.parametrize("name", METHODS)
class TestMethodContract:
    def test_learns(self, name, trained) -> None:
        _, _, rows, folder = trained(name)
        assert [row.step for row in rows] == list(range(4, STEPS + 1, 4))
        assert rows[-1].loss < rows[0].loss
        assert sum(rows[-1].losses.values()) < 0.9 * sum(rows[0].losses.values())
        assert rows[-1].spread > 0.05
        logged = [json.loads(line) for line in (folder / LOG_NAME).read_text().splitlines()]
        assert [row["step"] for row in logged] == [row.step for row in rows]
        assert logged[-1]["loss"] == pytest.approx(rows[-1].loss, rel=1e-4)

    def test_goes_on_where_it_was_cancelled_bit_by_bit(self, name, trained, tmp_path) -> None:
        _, whole, rows, _ = trained(name)
        data, stop = Toy(), Stop(7)
        with pytest.raises(JobCancelled):
            fit(build(name, data), data, recipe(), tmp_path, stop.watch())
        resumed = build(name, data, seed=1)
        seen = []
        watch = Watch(lambda progress, stage, eta: seen.append(progress))
        assert fit(resumed, data, recipe(), tmp_path, watch) == rows
        assert seen[0] == pytest.approx(8 / STEPS)
        assert same(resumed, whole)
        assert (tmp_path / LOG_NAME).read_text() == (trained(name)[3] / LOG_NAME).read_text()

    def test_weights_are_a_base_for_every_other_job(self, name, trained, tmp_path) -> None:
        data, pretext, rows, _ = trained(name)
        save_encoder(tmp_path / "encoder", pretext, data, spec(name, tmp_path), recipe(), rows)
        card = read_card(tmp_path / "encoder")
        assert card.task == "features" and card.bands == BANDS
        base = load_base(card)[0]
        assert same(base.encoder, pretext.encoder)
        config, network = build_base(card, ["a", "b"], from_scratch=False, seed=0)
        assert config.decoder == "unet"
        assert same(network.encoder, pretext.encoder)

    def test_images_that_all_look_alike_are_noticed(self, name, tmp_path) -> None:
        def alike(batch) -> None:
            for value in batch.values():
                value[:] = value[1:2].clone()

        data = Toy(alike)
        pretext = build(name, data)
        # What is hidden differs from image to image: an encoder that hears nothing of it is needed.
        with torch.no_grad():
            for part in pretext.encoder.parameters():
                part.zero_()
        with pytest.raises(TrainingError, match=r"collapsed by step 6: .* look alike"):
            fit(pretext, data, recipe(every=2, learning_rate=1e-9), tmp_path, Watch())

    def test_an_error_that_is_no_number_ends_it(self, name, tmp_path) -> None:
        data = Toy()
        with pytest.raises(TrainingError, match=r"astray in step \d+: .*no longer a number"):
            fit(build(name, data), data, recipe(learning_rate=1e9), tmp_path, Watch())

    def test_parts_of_a_step_add_up(self, name, tmp_path) -> None:
        data = Toy()
        pretext = build(name, data)
        halves = recipe(steps=2, accumulate=2, every=1)
        rows = fit(pretext, data, halves, tmp_path, Watch())
        assert all(math.isfinite(row.loss) for row in rows)
        assert not same(pretext, build(name, data))

    def test_another_encoder_is_refused(self, name) -> None:
        with pytest.raises(ModelError, match="not resnet18"):
            build(name, Toy(), encoder="resnet18")


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(trained, tmp_path) -> None:
    script = (
        "import os, signal, sys, torch; from pathlib import Path\n"
        "sys.path[:0] = sys.argv[2:]\n"
        "from test_contract import *\n"
        "def watch(progress, stage, eta):\n"
        "    if progress > 0.5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "data = Toy()\n"
        "fit(build('mp-mae', data), data, recipe(keep=0.0), Path(sys.argv[1]), Watch(watch))\n"
    )
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path), *paths])
    assert ended.returncode == -signal.SIGKILL
    assert len((tmp_path / LOG_NAME).read_text().splitlines()) == 2
    data, seen = Toy(), []
    watch = Watch(lambda progress, stage, eta: seen.append(progress))
    resumed = build("mp-mae", data)
    rows = fit(resumed, data, recipe(), tmp_path, watch)
    assert seen[0] > 0.5
    assert rows == trained("mp-mae")[2]
    assert same(resumed, trained("mp-mae")[1])


def test_an_unknown_method() -> None:
    with pytest.raises(InputError, match=r"no pretraining method 'dream'.*mp-mae"):
        build("dream", Toy())
