"""The protocols, against other computations of the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from mmearth.errors import JobCancelled, TrainingError
from mmearth.evaluation.descent import descend
from mmearth.evaluation.encoders import Candidate
from mmearth.evaluation.frozen import Features, features_of, linear_probe, nearest_neighbours
from mmearth.evaluation.scores import scores_of
from mmearth.evaluation.tiles import Part
from mmearth.evaluation.tuned import tune
from mmearth.models.network import Normaliser


def part_of(labels: np.ndarray, side: int = 16, seed: int = 0) -> Part:
    """Images of 10 bands; where labels are of pixels or images, brighter for higher ones."""
    count = len(labels)
    level = labels if labels.ndim == 3 else np.broadcast_to(
        (labels if labels.ndim == 1 else labels.argmax(axis=1))[:, None, None], (count, side, side)
    )  # fmt: skip
    random = np.random.default_rng(seed)
    images = 0.05 + 0.15 * level[:, None] + random.normal(0, 0.01, (count, 10, side, side))
    return Part(
        images.astype(np.float32), np.ones((count, side, side), bool), labels, np.arange(count)
    )


def rows_of(count: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    centres = np.random.default_rng(9).normal(size=(3, 8))
    return torch.tensor(centres[labels] + random.normal(0, 1.2, (count, 8))).float(), labels


def test_neighbours_as_scikit_learn_finds_them() -> None:
    known, labels = rows_of(200, 1)
    asked, truth = rows_of(80, 2)
    said = KNeighborsClassifier(
        20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(known.numpy(), labels)  # fmt: skip
    expected = (said.predict(asked.numpy()) == truth).mean()
    found = nearest_neighbours(
        Features(known, torch.tensor(labels), part_of(labels)),
        Features(asked, torch.tensor(truth), part_of(truth)),
        "single", 3, 20, 0,
    )  # fmt: skip
    assert found["accuracy"] == pytest.approx(expected) and 0.5 < expected < 1


def test_a_linear_probe_learns_what_is_linear() -> None:
    known, labels = rows_of(300, 1)
    asked, truth = rows_of(200, 2)
    train = Features(known, torch.tensor(labels), part_of(labels))
    test = Features(asked, torch.tensor(truth), part_of(truth))
    runs = [
        linear_probe(train, test, "single", 3, steps=120, learning_rate=0.05, seed=seed)
        for seed in (0, 0, 1)
    ]
    (curve, count), (again, _), (other, _) = runs
    assert count == 8 * 3 + 3 and curve == again != other
    assert curve.steps == (20, 40, 60, 80, 100, 120)
    centres = np.stack([known.numpy()[labels == one].mean(axis=0) for one in range(3)])
    nearest = ((asked.numpy()[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert curve.scores[-1]["accuracy"] > (nearest == truth).mean() - 0.03


def test_scores_by_hand() -> None:
    labels = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0]], np.float32)
    told = np.array([[0.9, 0.2, 0.6], [0.8, 0.1, 0.4], [0.7, 0.9, 0.1]], np.float32)
    found = scores_of("multi", labels, told)
    assert found["mAP"] == pytest.approx((5 / 6 + 1) / 2)  # the second class never occurs
    assert found["F1"] == pytest.approx(2 * 3 / (4 + 5))  # told five, of which three are right
    pixels = np.array([[[0, 0], [1, -1]]])
    found = scores_of("pixel", pixels, np.array([[[0, 1], [1, 0]]]))
    assert found == {"mIoU": pytest.approx(0.5), "accuracy": pytest.approx(2 / 3)}
    found = scores_of("single", np.array([0, 1, 1, 1]), np.eye(2)[[0, 1, 1, 0]])
    assert found["accuracy"] == 0.75 and found["F1"] == pytest.approx((2 / 3 + 0.8) / 2)


@pytest.mark.parametrize("random", [False, True])
def test_features_of_cells_and_images(tiny_model, random) -> None:
    candidate = Candidate("it", tiny_model, random)
    normalise = Normaliser(tiny_model.normalisation)
    labels = np.zeros((3, 16, 16), np.int64)
    labels[:, :, 8:] = 2
    labels[1] = -1
    cells = features_of(candidate.encoder(0), normalise, part_of(labels), "pixel", 3)
    count, channels, height, width = cells.values.shape
    assert count == 3 and height == width and 16 % height == 0
    values, targets = cells.rows()
    assert len(values) == 2 * height * width  # the cells of the second hold no label
    assert set(map(tuple, targets.tolist())) == {(1, 0, 0), (0, 0, 1)}
    images = features_of(candidate.encoder(0), normalise, part_of(labels[:, 0, 0] + 1), "single", 4)
    assert images.values.shape == (3, channels)
    same = candidate.encoder(1)(torch.ones(1, 10, 16, 16))[-1]
    first = candidate.encoder(0)(torch.ones(1, 10, 16, 16))[-1]
    assert torch.equal(same, first) != random


@pytest.mark.parametrize("kind", ["single", "multi", "pixel"])
def test_what_each_protocol_changes(tiny_model, kind) -> None:
    labels = np.arange(12) % 2
    if kind == "multi":
        labels = np.eye(2, dtype=np.float32)[labels]
    if kind == "pixel":
        labels = np.broadcast_to(labels[:, None, None], (12, 16, 16)).astype(np.int64)
    train, test = part_of(labels, seed=0), part_of(labels, seed=1)
    candidate, counts = Candidate("it", tiny_model, random=False), {}
    for protocol in ("frozen", "adapter", "full"):
        network = candidate.network(kind, 2, seed=3)
        before = {name: one.clone() for name, one in network.encoder.state_dict().items()}
        curve, counts[protocol] = tune(
            network, Normaliser(tiny_model.normalisation), protocol, train, test, kind,
            steps=12, batch=4, learning_rate=5e-3, seed=3,
        )  # fmt: skip
        assert len(curve.scores) == 6
        after = network.encoder.state_dict()
        same = [name in after and torch.equal(after[name], one) for name, one in before.items()]
        assert all(same) == (protocol == "frozen")
        if protocol == "full":
            name = {"single": "accuracy", "multi": "mAP", "pixel": "mIoU"}[kind]
            assert curve.scores[-1][name] > 0.9
    assert 0 < counts["frozen"] < counts["adapter"]
    assert (
        counts["frozen"]
        < counts["full"]
        == sum(one.numel() for one in candidate.network(kind, 2, 0).parameters())
    )


def test_descent_ends_where_it_must() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    groups = [{"params": [weight], "peak": 0.1, "weight_decay": 0.0}]
    with pytest.raises(TrainingError, match="astray in step 1"):
        descend(groups, 3, lambda random: weight.sum() / 0, dict, seed=0)
    with pytest.raises(JobCancelled):
        descend(groups, 3, lambda random: weight.sum(), dict, seed=0, cancelled=lambda: True)
