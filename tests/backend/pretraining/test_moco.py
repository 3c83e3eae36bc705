"""Momentum contrast, beyond what every method keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pretexts import Toy, build, spec
from torch.nn.functional import normalize

from mmearth.errors import InputError
from mmearth.models.registry import build_encoder
from mmearth.pretraining.moco import KEY, QUERY
from mmearth.pretraining.registry import build_method
from mmearth.pretraining.teacher import follow, momentum_at, pooled, slow_copy


def drawn(pretext, count=4):
    return pretext.draw(Toy(), count, np.random.default_rng(0))


def test_the_loss_by_hand() -> None:
    pretext = build("moco", Toy(), encoder="vit-toy-p8").eval()
    with torch.no_grad():
        for part in pretext.teacher.parameters():
            part.mul_(1.1)  # another network than the one that is trained
    batch = drawn(pretext)
    query = normalize(pretext.head(pooled(pretext.encoder, batch[QUERY])))
    key = normalize(pretext.teacher_head(pooled(pretext.teacher, batch[KEY])))
    expected = []
    for one, right in zip(query, key, strict=True):
        scores = torch.stack([one @ other for other in (right, *pretext.queue)]) / 0.2
        expected.append(-scores.log_softmax(0)[0])
    torch.testing.assert_close(pretext(batch).total, torch.stack(expected).mean())


def test_the_queue_forgets_the_oldest() -> None:
    pretext = build("moco", Toy(), encoder="vit-toy-p8", options={"queue": 10})
    before = pretext.queue.clone()
    for step in range(3):
        pretext.begin(step, 3)
        pretext(drawn(pretext))
        pretext(drawn(pretext, 2))  # two parts of a step
        pretext.advance()
    # 18 keys have come into 10 places: none of the first is left, and the next goes to the 8th.
    assert not torch.isin(before, pretext.queue).any() and pretext.place == 8
    torch.testing.assert_close(pretext.queue.norm(dim=1), torch.ones(10))
    state = pretext.queue.clone()
    pretext.eval()(drawn(pretext))  # what is only compared leaves nothing behind
    assert torch.equal(pretext.queue, state) and not pretext._said


def test_the_queue_is_no_longer_than_half_of_the_places() -> None:
    """Of an archive of 500 places, each would else be among its own negatives 33 times."""
    data = Toy()
    request = spec("moco", encoder="vit-toy-p8", options={"queue": 64})
    found = {}
    for places in (None, 1000, 100, 1):
        encoder = build_encoder(request.encoder, in_channels=3)
        pretext = build_method(encoder, data.modalities, request, places)
        found[places] = len(pretext.queue), pretext.facts()["queue"]
    assert found == {
        None: (64, 64),
        1000: (64, 64),
        100: (50, "50, half of the places"),
        1: (1, "1, half of the places"),
    }


def test_no_gradient_reaches_the_slow_copy_which_follows() -> None:
    pretext = build("moco", Toy())
    pretext.begin(500, 1000)
    pretext(drawn(pretext, 8)).total.backward()
    assert all(part.grad is None for part in pretext.teacher.parameters())
    statistics = pretext.teacher.state_dict()
    pretext.advance()
    moved = pretext.teacher.state_dict()
    fast = pretext.encoder.state_dict()
    (name,) = [key for key in statistics if key.endswith("running_mean")][:1]
    assert fast[name].abs().sum() > 0  # batch norm has seen the batch
    torch.testing.assert_close(moved[name], 0.1 * fast[name])  # momentum 0.9 of the toy


def test_the_copy_follows_by_its_momentum() -> None:
    fast = torch.nn.BatchNorm1d(2)
    slow = slow_copy(fast)
    with torch.no_grad():
        fast.weight.fill_(3.0)
    fast(torch.randn(8, 2))
    follow(slow, fast, 0.75)
    torch.testing.assert_close(slow.weight, torch.full((2,), 1.5))
    assert slow.num_batches_tracked == 1 and not slow.training
    assert momentum_at(0, 0.999) == 0.1 and momentum_at(10**6, 0.999) == 0.999


def test_parts_of_one_image_are_refused_where_they_cannot_be_normalised() -> None:
    with pytest.raises(InputError, match="parts of one image are none"):
        build("moco", Toy(), batch=4, accumulate=4)
    build("moco", Toy(), batch=4, accumulate=4, encoder="vit-toy-p8")
    with pytest.raises(InputError, match="36 x 36 pixels cannot be cut into patches of 8"):
        build("moco", Toy(), encoder="vit-toy-p8", crop=36)
