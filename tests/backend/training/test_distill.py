"""Distillation learns, repeats itself with the same seed, and its parts do what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import S2
from torch.nn.functional import max_pool2d, one_hot

from mmearth.models.card import NetworkConfig, Normalisation
from mmearth.models.network import Normaliser
from mmearth.models.registry import build_network
from mmearth.training.augment import RadiometricJitter
from mmearth.training.distill import (
    Recipe,
    boundary_divergence,
    class_weighted,
    distill,
    divergence,
)
from mmearth.training.metrics import agreement, confusion, intersection_over_union
from mmearth.training.softlabels import CropSampler, SoftTile, read_tiles

BANDS = ("B02", "B04", "B08")


@pytest.fixture
def tiles(tmp_path, make_raster):
    """Tiles whose classes follow from the brightness of B08, one of them small."""
    random = np.random.default_rng(0)
    entries = []
    for number, (height, width) in enumerate([(64, 64), (48, 80), (20, 24)]):
        values = random.integers(500, 4000, (12, height // 4, width // 4))
        values = np.kron(values, np.ones((4, 4))).astype(np.uint16)
        bright = values[7] > 2000
        label = np.zeros((2, height, width), np.uint8)
        label[0], label[1] = np.where(bright, 225, 25), np.where(bright, 25, 225)
        values[:, :2], label[:, :2] = 0, 0
        make_raster(f"t{number}.tif", values, bands=S2)
        make_raster(f"t{number}.teacher.tif", label)
        entries.append({"file": f"t{number}.tif", "group": f"g{number}", "split": "train"})
    (tmp_path / "index.json").write_text(json.dumps(entries))
    return read_tiles(tmp_path, BANDS, scale=1e-4)


def train(tiles, steps, seed=0, mixed=False, watch_layer=lambda layer, inputs, output: None):
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    config = NetworkConfig(
        decoder="unet",
        encoder="doubleconv-16",
        options={"encoder_depth": 1, "decoder_channels": [8]},
        multiply_adds_per_pixel=1,
    )
    network = build_network(config, in_channels=3, classes=2)
    network.segmentation_head[0].register_forward_hook(watch_layer)
    normalise = Normaliser(Normalisation(mean=(0.2,) * 3, std=(0.1,) * 3))
    losses = []
    student = distill(
        network,
        normalise,
        CropSampler(tiles, 32, seed),
        Recipe(steps, batch=4, crop=32, learning_rate=5e-3, warm_up=5, seed=seed, mixed=mixed),
        RadiometricJitter(),
        torch.tensor([0.49, 0.66, 0.83]),
        watch=lambda step, loss, average: losses.append(loss),
        every=10,
    )
    return student, losses


def test_reads_tiles(tiles) -> None:
    assert [tile.image.shape for tile in tiles] == [(3, 64, 64), (3, 48, 80), (3, 20, 24)]
    assert tiles[0].image.max() < 0.5
    assert not tiles[0].valid[:2].any() and tiles[0].valid[2:].all()
    np.testing.assert_allclose(tiles[0].target[:, 5, 5].sum(), 1)


def test_learns(tiles) -> None:
    _, losses = train(tiles, 80)
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(("mixed", "precision"), [(False, torch.float32), (True, torch.bfloat16)])
def test_layers_are_computed_in_the_precision_asked_for(tiles, mixed, precision) -> None:
    seen = set()
    student, _ = train(
        tiles, 2, mixed=mixed, watch_layer=lambda layer, inputs, output: seen.add(output.dtype)
    )
    assert seen == {precision}
    assert {weight.dtype for weight in student.parameters()} == {torch.float32}


def test_learns_as_well_in_bfloat16(tiles) -> None:
    student, losses = train(tiles, 80, mixed=True)
    assert losses[-1] < 0.2 * losses[0]
    assert all(torch.isfinite(weight).all() for weight in student.parameters())


def test_same_seed_same_weights(tiles) -> None:
    first, _ = train(tiles, 12)
    second, _ = train(tiles, 12)
    other, _ = train(tiles, 12, seed=1)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    differs = [
        not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)
    ]
    assert all(same) and any(differs)


def test_divergence_is_zero_for_the_teacher_itself() -> None:
    target = torch.softmax(torch.randn(2, 4, 8, 8), dim=1)
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    assert divergence(target.log(), target, valid).abs() < 1e-6
    assert divergence(torch.zeros_like(target), target, valid) > 0.01


def test_divergence_leaves_out_nodata() -> None:
    target = torch.softmax(torch.randn(1, 3, 4, 4), dim=1)
    valid = torch.zeros(1, 4, 4, dtype=torch.bool)
    valid[0, 0, 0] = True
    scores = torch.randn(1, 3, 4, 4)
    before = divergence(scores, target, valid)
    scores[0, :, 1:] = 99.0
    assert divergence(scores, target, valid) == before


def test_near_borders_divergence_counts_more() -> None:
    target = torch.full((1, 2, 1, 64), 0.1)
    target[:, 0, :, :32], target[:, 1, :, 32:] = 0.9, 0.9
    valid = torch.ones(1, 1, 64, dtype=torch.bool)
    near, far = target.log(), target.log()
    near[..., 31], far[..., 0] = 0.0, 0.0  # the same error, at the border and far away
    assert divergence(near, target, valid) == divergence(far, target, valid)
    assert boundary_divergence(near, target, valid) > 5 * boundary_divergence(far, target, valid)


def test_classes_count_as_they_are_weighted() -> None:
    target = one_hot(torch.tensor([[[0, 0, 0, 1]]]), 2).movedim(-1, 1).float()
    valid = torch.ones(1, 1, 4, dtype=torch.bool)
    scores = torch.zeros(1, 2, 1, 4)
    scores[:, 0, :, 3] = 5.0  # the last pixel, of the rare class, is wrong
    plain, even = (
        class_weighted(torch.tensor(weights))(scores, target, valid)
        for weights in ([1.0, 1.0], [1.0, 3.0])
    )
    torch.testing.assert_close(plain, divergence(scores, target, valid))
    right, wrong = float(np.log(2)), float(np.log1p(np.exp(5.0)))
    assert float(even) == pytest.approx((3 * right + 3 * wrong) / 6, rel=1e-5)
    nothing = class_weighted(torch.tensor([1.0, 3.0]))(scores, target, valid & False)
    assert nothing == 0


def test_what_has_no_data_is_no_border() -> None:
    target = torch.tensor([0.1, 0.9]).view(1, 2, 1, 1).repeat(1, 1, 4, 4)
    target[:, :, :, 2:] = 0.0
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    valid[..., 2:] = False
    scores = torch.randn(1, 2, 4, 4)
    found = boundary_divergence(scores, target, valid)
    assert torch.isclose(found, divergence(scores, target, valid))


def test_crops_keep_image_label_and_mask_together(tiles) -> None:
    images, targets, valid = CropSampler(tiles, 32, 3).draw(40)
    assert images.shape == (40, 3, 32, 32)
    bright = images[:, 2] > 0.2
    torch.testing.assert_close((targets[:, 0] > 0.5)[valid], bright[valid])


def test_tiles_of_rare_classes_are_drawn_more_often() -> None:
    def tile(label: int) -> SoftTile:
        target = np.zeros((3, 32, 32), np.float32)
        target[label] = 1
        image = np.full((1, 32, 32), label, np.float32)
        return SoftTile({}, Path(), image, target, np.ones((32, 32), bool))

    tiles = [tile(0)] * 15 + [tile(1)]
    for balance, share in ((0.0, 1 / 16), (0.5, 4 / 19.49), (1.0, 0.5)):
        crops = CropSampler(tiles, 32, 1, balance=balance)
        np.testing.assert_allclose(crops.class_shares, [1 - share, share, 0], atol=1e-3)
        images, _, _ = crops.draw(2000)
        assert float((images == 1).float().mean()) == pytest.approx(share, abs=0.04)


def test_crops_keep_pairs_of_pixels(tiles) -> None:
    """Numbers are alike in squares of two by two, and stay so however a crop is turned."""
    numbered = []
    for tile in tiles[:2]:
        row, col = np.indices(tile.valid.shape) // 2
        numbered.append(replace(tile, image=np.float32(row * 1000 + col)[None]))
    for step, whole in ((2, True), (1, False)):
        images, _, _ = CropSampler(numbered, 32, 3, step=step).draw(40)
        assert torch.equal(max_pool2d(images, 2), -max_pool2d(-images, 2)) is whole


class TestJitter:
    wavelengths = torch.tensor([0.49, 0.66, 0.83, 1.6])

    def test_changes_whole_crops_alike(self) -> None:
        jitter = RadiometricJitter(chance=1.0)
        images = torch.full((6, 4, 5, 5), 0.3)
        changed = jitter(images, self.wavelengths, torch.Generator().manual_seed(0))
        assert (changed.std(dim=(2, 3)) < 1e-6).all()
        assert not torch.allclose(changed, images)
        assert (changed >= 0).all()

    def test_haze_is_bluest(self) -> None:
        jitter = RadiometricJitter(gain=0, band_gain=0, haze=0.05, offset=0, chance=1.0)
        images = torch.full((64, 4, 1, 1), 0.5)
        added = (jitter(images, self.wavelengths, torch.Generator().manual_seed(0)) - 0.5).abs()
        assert (added[:, :-1] > added[:, 1:]).all()

    def test_chance_of_none_changes_nothing(self) -> None:
        images = torch.rand(3, 4, 5, 5)
        kept = RadiometricJitter(chance=0.0)(images, self.wavelengths, torch.Generator())
        assert torch.equal(kept, images)


def test_metrics() -> None:
    reference = np.array([0, 0, 0, 1, 1, 2])
    mapped = np.array([0, 0, 1, 1, 1, 0])
    matrix = confusion(reference, mapped, 4)
    assert matrix[0].tolist() == [2, 1, 0, 0]
    assert agreement(matrix) == pytest.approx(4 / 6)
    iou = intersection_over_union(matrix)
    assert iou[:3] == pytest.approx([2 / 4, 2 / 3, 0]) and np.isnan(iou[3])
