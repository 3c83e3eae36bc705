"""A network is trained on labels; runs repeat themselves, can be stopped, killed and taken up."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from scenes import MODEL_BANDS

from mmearth.api import RasterInput, SegmentSpec
from mmearth.errors import EmptyAreaError, InputError, JobCancelled, ModelError, TrainingError
from mmearth.jobs.prepare import prepare
from mmearth.models.card import NetworkConfig, Normalisation
from mmearth.models.network import Normaliser
from mmearth.models.registry import build_network
from mmearth.models.save import save_model
from mmearth.raster.stack import RasterStack
from mmearth.training import checkpoint, tune
from mmearth.training.bases import build_base, head_name
from mmearth.training.crops import Crop
from mmearth.training.labels import Labels
from mmearth.training.loop import Lessons, Recipe, fit
from mmearth.training.losses import LOSSES, find_loss
from mmearth.training.task import Task, Watch, train

SAVED = {"sha256", "weights_name", "folder"}
ENCODER_FACTS = {"task": "features", "classes": (), "products": (), "accuracy": ()}


@pytest.fixture
def task(settings, scene, tiny_model, tmp_path, monkeypatch) -> Task:
    """Squares on the blocks of the scene; a class is what is bright in one band."""
    monkeypatch.setattr(tune, "STEPS", 3)
    monkeypatch.setattr(tune, "BATCH", 2)
    ready = prepare(SegmentSpec(inputs=[RasterInput(path=str(scene))], model="tiny"), settings)
    stack = RasterStack(ready.bands, ready.grid)
    with stack:
        image, valid = stack.read_rows(0, 150)
    parts = []
    for top in range(4, 150, 16):
        for left in range(5, 125, 16):
            place = np.s_[top : top + 4, left : left + 4]
            if valid[place].all() and image[6][place].std() < 0.01:
                rows, cols = np.mgrid[place]
                parts.append((rows.ravel(), cols.ravel(), image[6][place].mean()))
    middle = np.median([value for *_, value in parts])
    labels = Labels(
        ("dark", "bright"),
        np.concatenate([rows for rows, *_ in parts]),
        np.concatenate([cols for _, cols, _ in parts]),
        np.repeat([int(value > middle) for *_, value in parts], 16),
        np.repeat(np.arange(len(parts)), 16),
    )
    return Task(
        tiny_model, stack, ready.layout, labels, settings, "full", tmp_path / "work", epochs=3
    )


def same(first, second) -> bool:
    return all(torch.equal(first.state[name], second.state[name]) for name in first.state)


def changed(task: Task, tmp_path, **changes) -> Task:
    return dataclasses.replace(task, folder=tmp_path / "other", **changes)


class TestTraining:
    def test_learns_what_it_is_shown(self, task) -> None:
        said: list[float] = []
        watch = Watch(lambda share, stage, eta: said.append(share))
        trained = train(dataclasses.replace(task, epochs=25, validation=0.25), watch)
        assert said == sorted(said) and said[-1] == pytest.approx(1)
        assert trained.history[-1].loss < 0.5 * trained.history[0].loss
        assert trained.tested.accuracy > 0.8
        assert trained.tested.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert trained.baseline.truth.tolist() == trained.tested.truth.tolist()
        assert trained.baseline.accuracy > 0.85 and 0.2 <= trained.temperature <= 5
        assert trained.facts["epochs"] == len(trained.history)
        assert [point.accuracy > 0.5 for point in trained.curve] == [True] * 3
        built = build_network(trained.network, in_channels=10, classes=2)
        built.load_state_dict(dict(trained.state))  # all keys, and no more

    @pytest.mark.parametrize("protocol", ["adapter", "full"])
    def test_the_same_seed_gives_the_same_weights(self, task, tmp_path, protocol) -> None:
        task = dataclasses.replace(task, protocol=protocol, epochs=1, validation=0)
        first = train(task, Watch())
        assert first.tested is None
        assert same(first, train(changed(task, tmp_path), Watch()))
        other = dataclasses.replace(changed(task, tmp_path, seed=1), folder=tmp_path / "third")
        assert not same(first, train(other, Watch()))

    @pytest.mark.parametrize("loss", LOSSES)
    def test_every_loss_can_be_chosen(self, task, loss) -> None:
        trained = train(dataclasses.replace(task, loss=loss, epochs=1, validation=0), Watch())
        assert np.isfinite(trained.history[0].loss)

    def test_full_changes_all_and_adapter_leaves_statistics(self, task, tmp_path) -> None:
        """Of new classes, the head is at first that of Quick, and all is tuned from there."""
        learned = tune.split_labels(task.labels, task.validation).learned
        quick = changed(task, tmp_path, protocol="quick", labels=learned)
        before = train(quick, Watch()).state
        for protocol in ("full", "adapter"):
            now = train(changed(task, tmp_path / protocol, protocol=protocol), Watch()).state
            assert set(now) == set(before)
            kept = {name for name in before if torch.equal(now[name], before[name])}
            assert {name for name in before if "running" in name} | {"mean", "scale"} <= kept
            weights = {name for name in before if name.endswith("weight")} & kept
            assert weights == {"base.segmentation_head.0.weight"}  # which goes unused
            torch.testing.assert_close(
                now["first.weight"], before["first.weight"], atol=0.05, rtol=0
            )

    @pytest.mark.parametrize("protocol", ["adapter", "full"])
    def test_a_head_that_knows_the_classes_is_tuned_itself(self, task, tmp_path, protocol) -> None:
        labels = dataclasses.replace(task.labels, names=("Water", "trees"))
        trained = train(changed(task, tmp_path, labels=labels, protocol=protocol), Watch())
        assert trained.network.decoder == "unet"
        assert trained.state["segmentation_head.0.bias"].shape == (2,)

    @pytest.mark.parametrize("more", [0, 1])
    def test_begins_with_a_class_of_one_label(self, task, more) -> None:
        """The others of its labels are tested on, or lie where there are no data."""
        labels, corner = task.labels, np.arange(more) + 3
        learned = labels.chosen((labels.classes == 0) | (labels.units == labels.units[-1]))
        if labels.classes[-1] == 0:
            learned = dataclasses.replace(learned, classes=(learned.units == labels.units[-1]) * 1)
        learned = dataclasses.replace(
            learned,
            rows=np.append(learned.rows, corner),
            cols=np.append(learned.cols, corner),
            classes=np.append(learned.classes, np.ones(more, int)),
            units=np.append(learned.units, np.full(more, labels.units.max() + 1)),
        )
        assert learned.units_per_class[1] == 1 + more
        config, network, curve = tune._begin(task, learned, Watch())
        assert config.decoder == "hypercolumn" and not curve
        assert network(torch.zeros(1, 10, 16, 16)).shape[1] == 2

    def test_from_scratch(self, task) -> None:
        trained = train(dataclasses.replace(task, from_scratch=True, epochs=1), Watch())
        assert trained.state["encoder.levels.0.1.running_mean"].abs().max() > 0
        with pytest.raises(ModelError, match="from scratch there is none"):
            train(dataclasses.replace(task, from_scratch=True, protocol="adapter"), Watch())

    def test_unknown_loss(self, task) -> None:
        with pytest.raises(InputError, match="no loss function"):
            train(dataclasses.replace(task, loss="mse"), Watch())

    def test_no_data_at_the_labels(self, task) -> None:
        rows = np.arange(2, 10)
        corner = Labels(task.labels.names, rows, rows, rows % 2, rows)
        with pytest.raises(EmptyAreaError, match="no data where the labels are"):
            train(dataclasses.replace(task, labels=corner, validation=0), Watch())

    def test_labels_without_data_are_told(self, task) -> None:
        one = np.array([3])
        number = task.labels.units.max() + 1
        parts = [
            np.append(part, more)
            for part, more in zip(
                (task.labels.rows, task.labels.cols, task.labels.classes, task.labels.units),
                (one, one, one * 0, one * 0 + number),
                strict=True,
            )
        ]
        labels = Labels(task.labels.names, *parts)
        trained = train(dataclasses.replace(task, labels=labels, epochs=1, validation=0), Watch())
        (warning,) = trained.warnings
        assert warning.code == "nodata" and "no data: 1 of 'dark'; left out" in warning.message


class TestEndings:
    def test_a_killed_run_goes_on_to_the_same_weights(self, task, tmp_path) -> None:
        class KilledError(Exception):
            pass

        def die(progress: float, stage: str, eta: float | None) -> None:
            stages.append(stage)
            if stage.startswith("Round 2"):
                raise KilledError

        stages: list[str] = []
        with pytest.raises(KilledError):
            train(task, Watch(die))
        stages.clear()
        again = train(task, Watch(lambda progress, stage, eta: stages.append(stage)))
        assert [stage[:7] for stage in stages if "Round" in stage] == ["Round 3"]
        straight = train(changed(task, tmp_path), Watch())
        assert same(again, straight) and again.history == straight.history

    def test_damaged_leftovers_are_not_gone_on_from(self, task, tmp_path) -> None:
        task.folder.mkdir()
        (task.folder / "epoch.pt").write_bytes(b"PK\x03\x04 half")
        task = dataclasses.replace(task, epochs=1, validation=0)
        assert same(train(task, Watch()), train(changed(task, tmp_path), Watch()))

    @pytest.mark.parametrize("stage", ["Building", "Learning", "Comparing", "Reading"])
    def test_cancelled_before_the_first_epoch(self, task, stage) -> None:
        stages = [""]
        watch = Watch(
            lambda progress, stage, eta: stages.append(stage),
            lambda: stages[-1].startswith(stage),
        )
        with pytest.raises(JobCancelled):
            train(task, watch)
        assert stages[-1].startswith(stage) and not task.folder.exists()

    @pytest.mark.parametrize("seconds", [45.0, 0.0])
    def test_cancelled_later_keeps_the_best_epoch(self, task, monkeypatch, seconds) -> None:
        """It is tested, too, unless that takes so long that it could not be saved."""
        monkeypatch.setattr(tune, "TESTING_SECONDS", seconds)
        stages: list[str] = []
        watch = Watch(
            lambda progress, stage, eta: stages.append(stage),
            lambda: any(stage.startswith("Round 1 of 3: ") for stage in stages),
        )
        trained = train(task, watch)
        assert len(trained.history) == 1 and (trained.tested is not None) == bool(seconds)
        warning, *more = trained.warnings
        assert [problem.code for problem in more] == ([] if seconds else ["untested"])
        assert warning.code == "stopped_early"
        assert "Stopped in round 2; the model is that of round 1" in warning.message


class Dots:
    """Crops whose class is their brightness."""

    def draw(self, count: int, random: np.random.Generator) -> list[Crop]:
        crops = []
        for number in range(count):
            image = random.normal(number % 2, 0.1, (2, 16, 16)).astype(np.float32)
            valid = np.ones((16, 16), bool)
            crops.append(Crop(image, np.full((16, 16), number % 2), valid))
        return crops


class TestLoop:
    @pytest.fixture
    def parts(self, tmp_path):
        """Network, lessons and recipe of small runs."""
        torch.manual_seed(0)
        network = torch.nn.Conv2d(2, 2, 1)
        normalise = Normaliser(Normalisation(mean=(0.5, 0.5), std=(1, 1)))
        lessons = Lessons(Dots(), (), normalise, find_loss("cross-entropy"), torch.ones(2), None)
        return network, lessons, Recipe(4, 2, 4, 16, learning_rate=0.05), tmp_path

    @pytest.mark.parametrize("good", [1, 5])
    def test_divergence(self, parts, good) -> None:
        network, lessons, recipe, folder = parts
        calls, usual = [], lessons.loss

        def loss(scores, target, weights):
            calls.append(1)
            return usual(scores, target, weights) * (1 if len(calls) <= good else np.nan)

        lessons = dataclasses.replace(lessons, loss=loss)
        if good == 1:
            with pytest.raises(TrainingError, match="no longer a number"):
                fit(network, {}, lessons, recipe, folder, Watch())
            return
        outcome = fit(network, {}, lessons, recipe, folder, Watch())
        assert outcome.best == 2 and [warning.code for warning in outcome.warnings] == ["diverged"]
        assert all(torch.isfinite(weight).all() for weight in network.parameters())

    def test_weights_that_are_no_numbers_are_never_kept(self, parts) -> None:
        """After the only step of an epoch its loss is a number, and the weights are none."""
        network, lessons, recipe, folder = parts
        usual = lessons.loss

        def overflow(scores, target, weights):
            found = usual(scores, target, weights)
            with torch.no_grad():
                network.bias.fill_(torch.inf)
            return found

        lessons = dataclasses.replace(lessons, loss=overflow)
        recipe = dataclasses.replace(recipe, steps=1)
        with pytest.raises(TrainingError, match="no longer a number"):
            fit(network, {}, lessons, recipe, folder, Watch())
        assert checkpoint.read(folder, torch.device("cpu")) is None

    def test_stops_when_labels_held_back_are_no_better(self, parts) -> None:
        network, lessons, recipe, folder = parts
        torch.nn.init.zeros_(network.weight)
        wrong = [
            dataclasses.replace(crop, target=1 - crop.target)
            for crop in Dots().draw(4, np.random.default_rng(0))
        ]
        recipe = dataclasses.replace(recipe, epochs=20, patience=3)
        lessons = dataclasses.replace(lessons, held=wrong)
        outcome = fit(network, {}, lessons, recipe, folder, Watch())
        assert outcome.best == 1 and len(outcome.history) == 4
        kept = network(torch.ones(1, 2, 1, 1)).detach()
        fit(network, {}, lessons, recipe, folder, Watch())  # over already
        torch.testing.assert_close(network(torch.ones(1, 2, 1, 1)).detach(), kept)


class TestBases:
    def save(self, tmp_path, tiny_facts, config: NetworkConfig, count=3, **facts):
        torch.manual_seed(3)
        network = build_network(config, in_channels=10, classes=count)
        facts = {**tiny_facts, "network": config, "stride": 16, **facts}
        return save_model(tmp_path / "base", network.state_dict(), facts, half=False), network

    def test_rows_of_known_classes_are_kept(self, tiny_model) -> None:
        names = ("new", "TREES", "Water")
        config, network = build_base(tiny_model, names, from_scratch=False, seed=0)
        assert config.decoder == "unet" and config.encoder == tiny_model.network.encoder
        old = build_base(tiny_model, ("water", "trees", "other"), from_scratch=False, seed=0)[1]
        new_head, old_head = network.segmentation_head[0], old.segmentation_head[0]
        for new, before in zip(new_head.parameters(), old_head.parameters(), strict=True):
            assert torch.equal(new[1], before[1]) and torch.equal(new[2], before[0])
        assert torch.equal(network.encoder.levels[0][0].weight, old.encoder.levels[0][0].weight)

    @pytest.mark.parametrize(
        ("encoder", "decoder", "built"),
        [
            ("detail-resnet18", "unet", "detail-resnet18-full"),
            ("mmearth-atto-p8", "unet", "mmearth-atto-p8-full"),
            ("vit-tiny-p16", "upconv", "vit-tiny-p16"),
        ],
    )
    def test_encoders_get_a_decoder(self, tmp_path, tiny_facts, encoder, decoder, built) -> None:
        plain = NetworkConfig(decoder="features", encoder=encoder, multiply_adds_per_pixel=1)
        card, old = self.save(tmp_path, tiny_facts, plain, count=0, **ENCODER_FACTS)
        config, network = build_base(card, ("a", "b"), from_scratch=False, seed=0)
        assert (config.decoder, config.encoder) == (decoder, built)
        assert config.multiply_adds_per_pixel > 1000
        known = old.encoder.state_dict()
        for name, value in network.encoder.state_dict().items():
            assert torch.equal(value, known[name])
        with torch.inference_mode():
            assert network(torch.zeros(1, 10, 64, 64)).shape == (1, 2, 64, 64)

    def test_of_a_quick_model_its_base_is_trained(self, tmp_path, tiny_facts, tiny_model) -> None:
        inner = {**json.loads(tiny_model.network.model_dump_json()), "classes": 3}
        config = NetworkConfig(
            decoder="hypercolumn", encoder="", multiply_adds_per_pixel=1,
            options={"base": inner, "widths": [10, 16, 32, 8]},
        )  # fmt: skip
        card, old = self.save(tmp_path, tiny_facts, config)
        config, network = build_base(card, ("a", "b"), from_scratch=False, seed=0)
        assert config.decoder == "unet"
        known = old.base.state_dict()
        for name, value in network.state_dict().items():
            assert name.startswith("segmentation_head") or torch.equal(value, known[name])

    def test_a_quick_model_that_knows_the_classes_is_kept(self, task, tmp_path) -> None:
        quick = changed(task, tmp_path, protocol="quick", validation=0)
        trained, base = train(quick, Watch()), task.card.model_dump()
        facts = {name: base[name] for name in base if name not in SAVED}
        rows = [
            {**row, "name": name}
            for row, name in zip(base["classes"][:2], task.labels.names, strict=True)
        ]
        product = {"id": "kinds", "title": "Kinds", "classes": rows}
        facts |= {"network": trained.network, "classes": rows, "products": (product,)}
        card = save_model(tmp_path / "quick", trained.state, facts, half=False)
        config, network = build_base(card, ("Bright", "DARK"), from_scratch=False, seed=0)
        assert config == card.network  # what it costs, too
        assert config.title == "hypercolumn on unet on doubleconv-16"
        for name, value in network.state_dict().items():
            known = trained.state[name]
            assert torch.equal(value, known.flip(0) if name.startswith("last") else known)
        config, _ = build_base(card, ("dark", "new"), from_scratch=False, seed=0)
        assert config.decoder == "unet"

    def test_onnx_is_refused(self, tiny_model) -> None:
        card = tiny_model.model_copy(update={"weights_name": "model.onnx"})
        with pytest.raises(ModelError, match=r"ONNX file, which can be run but not trained"):
            build_base(card, ("a", "b"), from_scratch=False, seed=0)

    @pytest.mark.parametrize(
        ("decoder", "encoder"),
        [("unet", "resnet18"), ("deeplabv3plus", "resnet18"), ("fcn", "resnet18"),
         ("linear", "resnet18"), ("mmearth-unet", "mmearth-atto-p8"), ("conv", "vit-tiny-p16"),
         ("upconv", "vit-tiny-p16")],
    )  # fmt: skip
    def test_the_head_is_found(self, decoder, encoder) -> None:
        config = NetworkConfig(decoder=decoder, encoder=encoder, multiply_adds_per_pixel=1)
        sizes = [build_network(config, in_channels=3, classes=count) for count in (2, 3)]
        states = [network.state_dict() for network in sizes]
        differ = {name for name in states[0] if states[0][name].shape != states[1][name].shape}
        assert {name.rpartition(".")[0] for name in differ} == {head_name(sizes[0])}


class TestSplit:
    def labels(self, units: int) -> Labels:
        numbers = np.arange(2 * units)
        place = np.repeat(numbers * 37 % 500, 4)
        return Labels(
            ("a", "b"),
            place,
            np.repeat(numbers * 91 % 700, 4) + np.tile(np.arange(4), 2 * units),
            np.repeat(numbers % 2, 4),
            np.repeat(numbers, 4),
        )

    @pytest.mark.parametrize(("validation", "share"), [(0.25, 0.25), (0.4, 0.4), (0.5, 0.5)])
    def test_no_unit_is_in_two_parts(self, validation, share) -> None:
        labels = self.labels(40)
        split = tune.split_labels(labels, validation)
        parts = [set(part.units) for part in (split.learned, split.held, split.tested)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 80
        assert len(parts[2]) / 80 == pytest.approx(share, abs=0.1)
        assert 0.1 < len(parts[1]) / (80 - len(parts[2])) < 0.35

    @pytest.mark.parametrize("validation", [0.1, 0.3, 0.4, 0.45, 0.5])
    def test_a_class_of_two_labels_is_learned_and_tested(self, validation) -> None:
        labels = self.labels(20)
        labels = labels.chosen((labels.classes == 0) | (labels.units < 4))
        split = tune.split_labels(labels, validation)
        for part in (split.learned, split.tested):
            assert part.units_per_class[0] >= 1 and part.units_per_class[1] == 1

    def test_few_labels_hold_none_back(self) -> None:
        split = tune.split_labels(self.labels(3), 0)
        assert not split.held.rows.size and not split.tested.rows.size

    def test_one_class(self) -> None:
        labels = self.labels(4)
        for validation in (0, 0.25):
            with pytest.raises(InputError, match="two classes or more"):
                tune.split_labels(labels.chosen(labels.classes == 0), validation)


def test_bands_of_the_tiny_model_have_wavelengths(task) -> None:
    wavelengths = tune._wavelengths(task)
    assert wavelengths.shape == (len(MODEL_BANDS),) and 0.4 < wavelengths.min() < 0.6
