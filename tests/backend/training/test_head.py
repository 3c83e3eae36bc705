"""Columns are taken where labels are, and a head learns from them, the same with the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scenes import MODEL_BANDS

from mmearth.api import RasterInput, SegmentSpec
from mmearth.errors import EmptyAreaError, JobCancelled, TrainingError
from mmearth.jobs.prepare import prepare
from mmearth.models.decoders import hypercolumn
from mmearth.models.levels import levels
from mmearth.models.network import Normaliser, load_weights
from mmearth.models.registry import build_network
from mmearth.raster.stack import RasterStack
from mmearth.training.head import HeadRecipe, Member, train_head, train_heads
from mmearth.training.labels import Labels
from mmearth.training.samples import take_samples, thinned


def labels_of(rows, cols, classes, units) -> Labels:
    parts = (np.array(part, np.int64) for part in (rows, cols, classes, units))
    return Labels(("a", "b"), *parts)


class TestSamples:
    @pytest.fixture
    def surroundings(self, settings, scene, tiny_model):
        spec = SegmentSpec(inputs=[RasterInput(path=str(scene))], model="tiny")
        ready = prepare(spec, settings)
        network = build_network(tiny_model.network, in_channels=len(MODEL_BANDS), classes=3)
        load_weights(network, tiny_model)
        stack = RasterStack(ready.bands, ready.grid)
        return stack, ready.layout, network.eval(), Normaliser(tiny_model.normalisation)

    def test_columns_are_those_of_the_tile(self, surroundings) -> None:
        stack, layout, network, normalise = surroundings
        rows, cols = [70, 71, 149, 5], [60, 61, 129, 5]  # the last one has no data
        labels = labels_of(rows, cols, [0, 1, 0, 1], [0, 1, 2, 3])
        samples = take_samples(stack, labels, layout, network, normalise)
        assert samples.empty == 1 and samples.labels.rows.tolist() == [70, 71, 149]
        with stack:
            image, valid = stack.read_rows(0, 150)
        assert valid[rows[:3], cols[:3]].all()
        np.testing.assert_allclose(samples.reflectance, image[:, rows[:3], cols[:3]].T)
        down = np.abs(70.5 - (np.array(layout.rows.starts) + layout.rows.tile / 2)).argmin()
        across = np.abs(60.5 - (np.array(layout.cols.starts) + layout.cols.tile / 2)).argmin()
        top, left = layout.rows.starts[down], layout.cols.starts[across]
        own_rows, own_cols = layout.rows.mirrored(top), layout.cols.mirrored(left)
        tile = torch.from_numpy(image[:, own_rows][:, :, own_cols])[None]
        mask = torch.from_numpy(valid[own_rows][:, own_cols])[None]
        with torch.inference_mode():
            maps = levels(network, normalise(tile, mask))
            place = torch.tensor([70 - top]), torch.tensor([60 - left])
            expected = hypercolumn.columns(maps, *place)
        np.testing.assert_allclose(samples.columns[:1], expected, atol=1e-5)

    def test_no_data_anywhere(self, surroundings) -> None:
        with pytest.raises(EmptyAreaError, match="no data where the labels are"):
            take_samples(surroundings[0], labels_of([5], [5], [0], [0]), *surroundings[1:])


def test_large_polygons_are_thinned_and_small_ones_kept() -> None:
    units = [0] * 1000 + [1] * 10
    labels = labels_of(range(1010), [0] * 1010, [0] * 1000 + [1] * 10, units)
    found = thinned(labels, seed=0, most=50)
    assert np.bincount(found.units).tolist() == [50, 10]
    np.testing.assert_array_equal(found.rows, thinned(labels, seed=0, most=50).rows)


def test_of_very_many_units_some_are_left_of_all_classes() -> None:
    classes = [0] * 29_990 + [1] * 10
    labels = labels_of(range(30_000), [0] * 30_000, classes, np.arange(30_000) // 2)
    found = thinned(labels, seed=0)
    assert found.units_per_class.tolist() == [1995, 5]


class TestTraining:
    @pytest.fixture
    def blobs(self):
        """Two classes of 40 features, one with a single unit in ten."""
        random = np.random.default_rng(0)
        classes = np.repeat([0, 1], [900, 100])
        columns = random.normal(size=(1000, 40)).astype(np.float32) * 100
        columns[:, 0] += classes * 400
        return columns, classes.astype(np.int64), np.repeat(np.arange(10), 100).astype(np.int64)

    def test_learns_the_rare_class_too(self, blobs) -> None:
        losses = []
        recipe = HeadRecipe(steps=120, batch=128)
        head = train_head(*blobs, 2, recipe, watch=lambda step, loss: losses.append(loss))
        found = head(torch.from_numpy(blobs[0])).argmax(dim=1).numpy()
        assert (found[blobs[1] == 1] == 1).mean() > 0.9 and (found == blobs[1]).mean() > 0.9
        assert losses[-1] < 0.6 * losses[0]

    def test_the_same_seed_gives_the_same_head(self, blobs) -> None:
        recipe = HeadRecipe(steps=10, batch=64)
        first, second = (train_head(*blobs, 2, recipe).state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)
        other = train_head(*blobs, 2, HeadRecipe(steps=10, batch=64, seed=1)).state_dict()
        assert not torch.equal(first["last.weight"], other["last.weight"])

    def test_a_member_sees_its_own_features_only(self, blobs) -> None:
        columns, classes, units = blobs
        recipe = HeadRecipe(steps=40, batch=128)
        head = train_head(columns, classes, units, 2, recipe, members=[Member(1), Member(1)])
        changed = columns.copy()
        changed[:, 1:] += 1000
        with torch.no_grad():
            scores = head(torch.from_numpy(columns))
            assert torch.equal(scores, head(torch.from_numpy(changed)))
        assert (scores.argmax(dim=1).numpy() == classes).mean() > 0.9

    def test_the_bands_outvote_features_that_mislead(self, blobs) -> None:
        """The second half of the features tells units apart, and nothing of new ones."""
        columns, classes, units = blobs
        random = np.random.default_rng(1)
        of_unit = random.normal(size=(20, 200)).astype(np.float32)
        known = np.concatenate([columns[:, :1], of_unit[units]], axis=1)
        new = np.concatenate([columns[:, :1], of_unit[units + 10]], axis=1)
        recipe = HeadRecipe(steps=60, batch=128)

        def accuracy(*members: Member) -> float:
            head = train_head(known, classes, units, 2, recipe, members=members)
            found = head(torch.from_numpy(new)).argmax(dim=1).numpy()
            return float(np.mean([(found == classes)[classes == kind].mean() for kind in (0, 1)]))

        assert accuracy(Member(1), Member(201, 0.3)) > accuracy(Member(201, 0.3))

    def test_heads_learn_from_their_own_parts(self, blobs) -> None:
        columns, classes, units = blobs
        half = np.arange(1000) % 2 == 0
        swapped = np.where(half, classes, 1 - classes)
        recipe = HeadRecipe(steps=60, batch=128)
        parts = np.stack([half, ~half])
        heads = train_heads(columns, swapped, units, 2, parts, recipe)
        for head, expected in zip(heads, (classes, 1 - classes), strict=True):
            found = head(torch.from_numpy(columns)).argmax(dim=1).numpy()
            assert (found == expected).mean() > 0.9

    def test_numbers_that_are_not_finite_are_refused(self, blobs) -> None:
        blobs[0][3, 3] = np.nan
        with pytest.raises(TrainingError, match="not finite"):
            train_head(*blobs, 2, HeadRecipe(steps=2))

    def test_what_is_constant_at_the_labels_has_no_say_elsewhere(self, blobs) -> None:
        columns, classes, units = blobs
        columns[:, 20:] = 0  # features that no labelled pixel excites
        head = train_head(columns, classes, units, 2, HeadRecipe(steps=40, batch=128))
        elsewhere = columns.copy()
        elsewhere[:, 20:] = 5
        with torch.no_grad():
            assert torch.equal(*(head(torch.from_numpy(part)) for part in (columns, elsewhere)))

    def test_weights_that_are_no_numbers_are_refused(self, blobs) -> None:
        blobs[0][:] += 1e6  # more than half precision holds
        with pytest.raises(TrainingError, match="went astray"):
            train_head(*blobs, 2, HeadRecipe(steps=2))

    def test_cancel(self, blobs) -> None:
        steps: list[int] = []
        with pytest.raises(JobCancelled):
            train_head(
                *blobs, 2, HeadRecipe(), watch=lambda step, loss: steps.append(step),
                cancelled=lambda: bool(steps),
            )  # fmt: skip
        assert steps == [1]
