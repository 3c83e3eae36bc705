"""Self-distillation, beyond what every method keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pretexts import FIELDS, Toy, build

from mmearth.pretraining.teacher import pooled

OPTIONS = FIELDS["dino"]["options"]


def drawn(pretext, count=3):
    return pretext.draw(Toy(), count, np.random.default_rng(0))


def test_the_loss_by_hand_with_small_looks() -> None:
    pretext = build("dino", Toy(), options={**OPTIONS, "small_crops": 2}).eval()
    pretext.begin(60, 100)
    with torch.no_grad():
        pretext.centre.normal_(std=0.1)
        for part in pretext.teacher.parameters():
            part.mul_(1.1)
    batch = drawn(pretext)
    assert [value.shape[-1] for value in batch.values()] == [24, 24, 8, 8]
    large = list(batch.values())[:2]
    expected = []
    for n in range(3):
        for a, look in enumerate(large):
            said = pretext.teacher_head(pooled(pretext.teacher, look))[n]
            wanted = ((said - pretext.centre) / 0.07).softmax(0)
            for b, other in enumerate(batch.values()):
                if a != b:
                    seen = pretext.head(pooled(pretext.encoder, other))[n] / 0.1
                    expected.append(-(wanted * seen.log_softmax(0)).sum())
    torch.testing.assert_close(pretext(batch).total, torch.stack(expected).mean())


def test_the_last_layer_waits() -> None:
    pretext = build("dino", Toy())
    for done, waits in ((0, True), (1, False)):
        pretext.begin(done, 100)
        pretext.zero_grad()
        pretext(drawn(pretext)).total.backward()
        assert (pretext.head.last.grad is None) == waits
        assert pretext.head.layers[0].weight.grad.abs().sum() > 0


def test_the_centre_follows_all_parts_of_a_step() -> None:
    pretext = build("dino", Toy(), options={**OPTIONS, "centre_momentum": 0.75})
    pretext.begin(0, 10)
    batch = drawn(pretext, 4)
    looks = torch.cat(list(batch.values()))
    with torch.no_grad():
        said = pretext.teacher_head(pooled(pretext.teacher, looks)).mean(dim=0)
    for part in (slice(0, 2), slice(2, 4)):
        pretext({name: value[part] for name, value in batch.items()})
    pretext.advance()
    torch.testing.assert_close(pretext.centre, 0.25 * said)


@pytest.mark.parametrize(("done", "temperature"), [(0, 0.04), (15, 0.055), (30, 0.07), (99, 0.07)])
def test_the_teacher_grows_softer(done, temperature) -> None:
    pretext = build("dino", Toy())
    pretext.begin(done, 100)
    assert pretext._temperature() == pytest.approx(temperature)


def test_the_teacher_comes_to_rest() -> None:
    pretext = build("dino", Toy())
    before = {k: v.clone() for k, v in pretext.teacher.state_dict().items()}
    with torch.no_grad():
        for part in pretext.encoder.parameters():
            part.add_(1)
    for done, moved in ((500, 0.05), (1000, 0.0)):
        pretext.begin(done, 1000)
        pretext(drawn(pretext))
        pretext.teacher.load_state_dict(before)
        pretext.advance()
        name = "vit_core.cls_token"
        step = (pretext.teacher.state_dict()[name] - before[name]).mean()
        # The momentum is 0.9 at first, 0.95 half-way, and 1 in the end.
        assert float(step) == pytest.approx(moved, abs=1e-5)
