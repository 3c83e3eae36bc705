"""What a network says of a tile is computed once, and is the same from memory."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scenes import CLASSES, MODEL_BANDS

from mmearth.api import RasterInput, SegmentSpec
from mmearth.errors import ModelError
from mmearth.inference.predict import class_probabilities, compute_rows
from mmearth.jobs.prepare import prepare
from mmearth.models.card import NetworkConfig
from mmearth.models.levels import forget, levels, levels_of, set_budget, tiles_computed
from mmearth.models.network import Network
from mmearth.models.registry import build_network
from mmearth.models.save import save_model
from mmearth.raster.stack import RasterStack

CONFIG = NetworkConfig(
    decoder="unet",
    encoder="doubleconv-16",
    options={"encoder_depth": 3, "decoder_channels": [32, 16, 8]},
    multiply_adds_per_pixel=1,
)


@pytest.fixture
def base():
    torch.manual_seed(0)
    return build_network(CONFIG, in_channels=len(MODEL_BANDS), classes=3).eval()


@pytest.fixture
def tiles():
    """Return ten tiles, and begin and end with an empty memory."""
    forget()
    random = torch.Generator().manual_seed(0)
    yield [torch.randn(1, len(MODEL_BANDS), 64, 64, generator=random) for _ in range(10)]
    forget()


@torch.inference_mode()
def test_the_same_from_memory(base, tiles) -> None:
    before = tiles_computed()
    first = levels_of(base, tiles[0])
    again = levels_of(base, tiles[0].clone())
    assert tiles_computed() == before + 1
    own_format = tiles[0].contiguous(memory_format=torch.channels_last)
    for one, other, plain in zip(first, again, levels(base, own_format), strict=True):
        assert torch.equal(one, other) and torch.equal(one, plain)


def test_only_what_is_wanted(base, tiles) -> None:
    before = tiles_computed()
    (image,) = levels_of(base, tiles[0], [0])
    assert torch.equal(image, tiles[0]) and tiles_computed() == before
    decoded, image = levels_of(base, tiles[0], [4, 0])
    assert decoded.shape[1] == 8 and torch.equal(image, tiles[0])


def test_other_weights_and_other_tiles_are_told_apart(base, tiles) -> None:
    before = tiles_computed()
    plain = levels_of(base, tiles[0])[-1]
    twin = copy.deepcopy(base)
    assert torch.equal(levels_of(twin, tiles[0])[-1], plain) and tiles_computed() == before + 1
    with torch.no_grad():
        next(twin.encoder.parameters()).mul_(1.5)
    assert not torch.equal(levels_of(twin, tiles[0])[-1], plain)
    assert not torch.equal(levels_of(base, tiles[1])[-1], plain)
    assert tiles_computed() == before + 3


def test_the_oldest_go_when_the_budget_is_spent(base, tiles, settings) -> None:
    set_budget(settings.model_copy(update={"memory_mb": 1}))
    decoded = 64 * 64 * 8 * 4
    fitting = 2**20 // decoded
    before = tiles_computed()
    for tile in tiles:
        levels_of(base, tile, [4])
    assert fitting < len(tiles)
    levels_of(base, tiles[-fitting], [4])
    assert tiles_computed() == before + len(tiles)
    levels_of(base, tiles[0], [4])
    assert tiles_computed() == before + len(tiles) + 1
    set_budget(settings)


def test_threads_share_the_memory(base, tiles) -> None:
    expected = [levels(base, tile)[-1] for tile in tiles]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda tile: levels_of(base, tile)[-1], tiles * 3))
    for one, other in zip(found, expected * 3, strict=True):
        torch.testing.assert_close(one, other)


def test_no_encoder_no_levels(tiles) -> None:
    with pytest.raises(ModelError, match="Nothing can be built"):
        levels_of(torch.nn.Identity(), tiles[0])


def test_a_saved_head_maps_from_memory(base, tiles, settings, scene, tiny_model, tmp_path) -> None:
    options = {
        "base": {**CONFIG.model_dump(), "classes": 3},
        "widths": [len(MODEL_BANDS), 8],
        "chosen": [0, 4],
        "hidden": 16,
    }
    config = NetworkConfig(
        decoder="hypercolumn", encoder="", options=options, multiply_adds_per_pixel=1
    )
    network = build_network(config, in_channels=len(MODEL_BANDS), classes=len(CLASSES))
    network.base.load_state_dict(base.state_dict())
    facts = tiny_model.model_dump(exclude={"sha256", "weights_name", "folder"})
    facts |= {"id": "head", "network": config}
    card = save_model(tmp_path / "head", network.state_dict(), facts)
    spec = SegmentSpec(inputs=[RasterInput(path=str(scene))], model="tiny")
    ready = prepare(spec, settings)

    def mapped() -> np.ndarray:
        model = Network(card, settings)
        stack = RasterStack(ready.bands, ready.grid)
        bands = compute_rows(
            stack, class_probabilities(model), ready.layout, model.workload(card.tile_size)
        )
        return np.concatenate([band.values.numpy() for band in bands], axis=1)

    before = tiles_computed()
    first = mapped()
    computed = tiles_computed() - before
    assert computed > 0
    np.testing.assert_array_equal(mapped(), first)
    assert tiles_computed() - before == computed
    forget()
    np.testing.assert_array_equal(mapped(), first)
