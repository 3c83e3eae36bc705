"""A quick head learns where labels are, is tested where they are not, and maps from memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import MODEL_BANDS

from mmearth.api import RasterInput, SegmentSpec
from mmearth.errors import InputError, JobCancelled, ModelError
from mmearth.inference.predict import class_probabilities, compute_rows
from mmearth.jobs.prepare import prepare
from mmearth.models.card import NetworkConfig, file_sha256
from mmearth.models.features import FeatureNetwork
from mmearth.models.levels import forget, tiles_computed
from mmearth.models.network import Network
from mmearth.models.registry import build_network
from mmearth.models.save import save_model
from mmearth.raster.stack import RasterStack
from mmearth.training.labels import Labels
from mmearth.training.task import Task, Watch, train

SIDE = 5  # pixels of a label


def labels_at(places, names=("a", "b")) -> Labels:
    """Return square labels: (row, col, class) of each."""
    rows, cols = np.mgrid[:SIDE, :SIDE].reshape(2, -1)
    parts = [
        np.stack([row + rows, col + cols, np.full(rows.size, kind), np.full(rows.size, unit)])
        for unit, (row, col, kind) in enumerate(places)
    ]
    return Labels(names, *np.concatenate(parts, axis=1).astype(np.int64))


def two_halves(count: int) -> Labels:
    """Return labels of a class in the left of a scene of 150 x 130 pixels, another in the right."""
    random = np.random.default_rng(0)
    return labels_at(
        [
            (int(random.integers(40, 140)), int(random.integers(0, 50)) + 70 * (unit % 2), unit % 2)
            for unit in range(count)
        ]
    )


@pytest.fixture
def scene(make_raster):
    """A scene whose right half is brighter in one band of twelve; its corner is empty."""
    from scenes import S2

    random = np.random.default_rng(0)
    values = random.normal(1500, 150, (12, 150, 130)).clip(1).astype(np.uint16)
    values[7, :, 65:] += 1500
    values[:, :30, :32] = 0
    return make_raster("halves.tif", values, bands=S2, nodata=0)


@pytest.fixture
def make_task(settings, scene, tiny_model, tmp_path):
    """Return a function that makes a task of labels."""
    forget()
    ready = prepare(
        SegmentSpec(inputs=[RasterInput(path=str(scene))], model="tiny"),
        settings,
    )

    def make(labels: Labels, **facts) -> Task:
        stack = RasterStack(ready.bands, ready.grid)
        task = Task(tiny_model, stack, ready.layout, labels, settings, "quick", tmp_path / "work")
        return replace(task, **{"validation": 0.5, **facts})

    return make


def saved(trained, card, folder):
    """Save what was trained as a model."""
    facts = card.model_dump(exclude={"sha256", "weights_name", "folder"})
    facts |= {
        "id": "head",
        "network": trained.network,
        "temperature": trained.temperature,
        "classes": facts["classes"][:2],
        "products": [{"id": "p", "title": "P", "classes": facts["classes"][:2]}],
    }
    return save_model(folder, trained.state, facts)


def mapped(task: Task, card) -> np.ndarray:
    network = Network(card, task.settings)
    bands = compute_rows(
        task.stack, class_probabilities(network), task.layout, network.workload(64)
    )
    return np.concatenate([band.values.numpy() for band in bands], axis=1)


class TestTraining:
    def test_learns_is_tested_and_maps_from_memory(self, make_task, tmp_path) -> None:
        task = make_task(two_halves(16), validation=0.25)
        said: list[tuple[float, str]] = []
        trained = train(task, Watch(lambda share, stage, eta: said.append((share, stage))))
        assert [share for share, _ in said] == sorted(share for share, _ in said)
        assert 0 < said[0][0] and said[-1][0] == pytest.approx(1)

        tested = trained.tested
        assert tested.accuracy > 0.95 and trained.baseline.accuracy > 0.95
        assert trained.baseline.truth is tested.truth
        np.testing.assert_array_equal(np.unique(tested.units), np.arange(16))
        np.testing.assert_allclose(tested.probabilities.sum(axis=1), 1, atol=1e-5)
        assert [point.units for point in trained.curve] == [4, 6, 12]
        assert trained.curve[-1].accuracy == tested.accuracy
        assert trained.facts["folds"] == 4

        card = saved(trained, task.card, tmp_path / "head")
        known = tiles_computed()
        first = mapped(task, card)
        elsewhere = tiles_computed() - known
        truth = np.arange(130) >= 65
        valid = np.s_[40:, :]
        assert ((first.argmax(axis=0) == truth)[valid]).mean() > 0.95
        np.testing.assert_array_equal(mapped(task, card), first)
        assert tiles_computed() - known == elsewhere < task.layout.count
        train(make_task(two_halves(16), seed=1, validation=0.0), Watch())
        assert tiles_computed() - known == elsewhere

    def test_the_same_task_gives_the_same_numbers(self, make_task) -> None:
        first = train(make_task(two_halves(8)), Watch())
        forget()
        again = train(make_task(two_halves(8)), Watch())
        assert first.state.keys() == again.state.keys()
        for name, tensor in first.state.items():
            assert torch.equal(tensor, again.state[name])
        np.testing.assert_array_equal(first.tested.probabilities, again.tested.probabilities)
        np.testing.assert_array_equal(first.baseline.probabilities, again.baseline.probabilities)
        other = train(make_task(two_halves(8), seed=1, validation=0.0), Watch())
        assert not torch.equal(first.state["last.weight"], other.state["last.weight"])

    def test_units_are_never_tested_on_what_learned_from_them(self, make_task) -> None:
        """Every unit of a class that is not there, given at random, is not to be known again."""
        random = np.random.default_rng(1)
        places = [(int(r), int(c), k % 2) for k, (r, c) in
                  enumerate(zip(random.integers(40, 140, 30), random.integers(70, 120, 30),
                                strict=True))]  # fmt: skip
        trained = train(make_task(labels_at(places)), Watch())
        assert trained.facts["folds"] == 2
        assert trained.tested.accuracy < 0.75 and trained.baseline.accuracy < 0.75

    def test_nothing_is_tested_if_so_wished(self, make_task) -> None:
        labels = labels_at([(50, 10, 0), (50, 90, 1)])
        trained = train(make_task(labels, validation=0.0), Watch())
        assert trained.tested is None and trained.baseline is None and not trained.curve
        with pytest.raises(InputError, match="Expected two labels or more"):
            train(make_task(labels), Watch())

    def test_fifty_classes_in_a_scene_that_is_all_alike(
        self, make_task, make_raster, settings
    ) -> None:
        from scenes import S2

        path = make_raster("flat.tif", np.full((12, 150, 130), 900, np.uint16), bands=S2)
        ready = prepare(SegmentSpec(inputs=[RasterInput(path=str(path))], model="tiny"), settings)
        rows, cols = np.mgrid[:150:2, :130:2].reshape(2, -1)
        units = rows // 15 * 10 + cols // 13
        names = tuple(f"class {number}" for number in range(50))
        labels = Labels(names, rows, cols, units % 50, units)
        stack = RasterStack(ready.bands, ready.grid)
        trained = train(make_task(labels, stack=stack, layout=ready.layout), Watch())
        assert trained.facts["units"] == 100
        assert all(torch.isfinite(tensor).all() for tensor in trained.state.values())
        assert trained.tested.accuracy == pytest.approx(0.02, abs=0.04)


class TestBases:
    @pytest.mark.parametrize(
        ("encoder", "chosen"),
        [("resnet18", [0, 1, 2]), ("vit-tiny-p16", [0, 4])],
    )
    def test_a_mere_encoder(self, make_task, tiny_model, tmp_path, encoder, chosen) -> None:
        torch.manual_seed(0)
        config = NetworkConfig(decoder="features", encoder=encoder, multiply_adds_per_pixel=1)
        network = build_network(config, in_channels=len(MODEL_BANDS), classes=0)
        facts = tiny_model.model_dump(exclude={"sha256", "weights_name", "folder", "products"})
        facts |= {"task": "features", "network": config, "stride": 32, "classes": ()}
        card = save_model(tmp_path / encoder, network.state_dict(), facts)
        task = make_task(two_halves(8), card=card)
        trained = train(task, Watch())
        assert trained.facts["levels"] == chosen
        assert trained.tested.accuracy > 0.9
        whole = build_network(trained.network, in_channels=len(MODEL_BANDS), classes=2)
        whole.load_state_dict(trained.state)
        assert trained.network.multiply_adds_per_pixel > 1

    def test_a_head_on_a_head_is_built_on_its_base(self, make_task, tmp_path) -> None:
        first = train(make_task(two_halves(8), validation=0.0), Watch())
        task = make_task(two_halves(8), validation=0.0)
        again = train(replace(task, card=saved(first, task.card, tmp_path / "head")), Watch())
        assert again.network.options == first.network.options
        for name, tensor in again.state.items():
            assert torch.equal(tensor, first.state[name])

    def test_features_are_those_of_the_base(self, make_task, tiny_model, tmp_path) -> None:
        trained = train(make_task(two_halves(8), validation=0.0), Watch())
        task = make_task(two_halves(8))
        card = saved(trained, tiny_model, tmp_path / "head")
        images = np.random.default_rng(0).random((1, 10, 64, 64), np.float32)
        masks = np.ones((1, 64, 64), bool)
        found, expected = (
            FeatureNetwork(one, task.settings).features(images, masks) for one in (card, tiny_model)
        )
        assert torch.equal(found, expected)

    def test_not_from_scratch(self, make_task) -> None:
        with pytest.raises(InputError, match="cannot begin from scratch"):
            train(make_task(two_halves(8), from_scratch=True), Watch())

    def test_nothing_to_build_on(self, make_task, tiny_model, tmp_path) -> None:
        (tmp_path / "model.onnx").write_bytes(b"")
        facts = {"weights_name": "model.onnx", "folder": tmp_path}
        card = tiny_model.model_copy(
            update={**facts, "sha256": file_sha256(tmp_path / "model.onnx")}
        )
        with pytest.raises(ModelError, match="Nothing can be built"):
            train(make_task(two_halves(8), card=card), Watch())


class TestLabels:
    def test_labels_without_data_are_named(self, make_task) -> None:
        places = [(50, 10, 0), (120, 20, 0), (5, 5, 0), (50, 90, 1), (120, 100, 1), (27, 34, 1)]
        trained = train(make_task(labels_at(places)), Watch())
        (warning,) = trained.warnings
        assert warning.code == "nodata" and "1 of 'a'" in warning.message
        assert set(trained.tested.units) == {0, 1, 3, 4, 5}
        assert trained.facts["units"] == 5

    def test_a_class_without_data(self, make_task) -> None:
        places = [(50, 10, 0), (120, 20, 0), (50, 90, 1), (120, 100, 1), (5, 5, 2)]
        with pytest.raises(InputError, match="No label of 'c'"):
            train(make_task(labels_at(places, ("a", "b", "c"))), Watch())
        with pytest.raises(InputError, match="two classes or more"):
            train(make_task(labels_at([(50, 10, 0), (5, 5, 1)])), Watch())


@pytest.mark.parametrize("stage", ["Looking", "Learning", "Comparing"])
def test_cancel(make_task, stage) -> None:
    wishes: list[str] = []

    def report(share: float, words: str, eta: float | None) -> None:
        if words.startswith(stage):
            wishes.append(words)

    with pytest.raises(JobCancelled):
        train(make_task(two_halves(8)), Watch(report, lambda: bool(wishes)))
