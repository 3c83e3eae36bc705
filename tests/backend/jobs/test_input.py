"""What a network is given: each band in its place, its offset removed once, no-data exactly 0.

The whole way from a request to the network's input, for the encoders that are published for
Sentinel-2.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from products import write_product

from mmearth.api import Radiometry, RasterInput, SegmentSpec
from mmearth.jobs.prepare import prepare
from mmearth.models.card import NetworkConfig
from mmearth.models.network import Normaliser
from mmearth.models.registry import build_network, find_model
from mmearth.models.save import save_model
from mmearth.models.store.published import find_published, published_models
from mmearth.raster.stack import RasterStack
from mmearth.settings import Settings

ALL = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
STORED = {name: 700 + 150 * place for place, name in enumerate(ALL)}  # reflectance x 10000
MMEARTH = "mmearth-all-mod-atto-1m-64-uncertainty-56-8"
SSL4EO = "ssl4eo-resnet50-all-moco"
CASES = [
    (model.id, level)
    for model in published_models()
    if model.sensor == "sentinel-2"
    for level in model.levels
]
# Mean and standard deviation of MMEarth64, data_1M_v001_64_band_stats.json.
MMEARTH_B8 = {
    "L1C": {"B08": (2620.48, 1519.22), "B8A": (2907.51, 1560.23)},
    "L2A": {"B08": (3110.84, 1988.19), "B8A": (3149.54, 1816.62)},
}


@pytest.fixture
def given(tmp_path, tiny_facts):
    """Return a function that answers with what a published encoder is given of a raster.

    The encoder's bands and normalisation stand in the card of a tiny network, which has products.
    """

    def read(model_id, level, path, radiometry=None):
        model = find_published(model_id)
        network = NetworkConfig(**tiny_facts["network"].model_dump())
        facts = {
            **tiny_facts,
            "network": network,
            "bands": model.bands,
            "levels": (level,),
            "normalisation": model.normalisation(level),
        }
        module = build_network(network, in_channels=len(model.bands), classes=3)
        settings = Settings(home=tmp_path / "home", device="cpu", threads=1)
        save_model(tmp_path / "home" / "models" / "tiny", module.state_dict(), facts)
        spec = SegmentSpec(
            inputs=[RasterInput(path=str(path), label="")], model="tiny", radiometry=radiometry
        )
        ready = prepare(spec, settings)
        with RasterStack(ready.bands, ready.grid) as stack:
            image, valid = stack.read_rows(0, stack.grid.height)
        card = find_model("tiny", settings.model_folders)
        values = Normaliser(card.normalisation)(
            torch.from_numpy(image)[None], torch.from_numpy(valid)[None]
        )
        return dict(zip(model.bands, values[0].numpy(), strict=True)), valid

    return read


@pytest.fixture
def constants(make_raster):
    """Return a function that writes one constant a band, bands in any order, a corner empty."""

    def make(order, added=0, **options):
        values = np.array([STORED[name] + added for name in order], np.uint16)
        pixels = np.broadcast_to(values[:, None, None], (len(order), 40, 40)).copy()
        pixels[:, :10, :10] = 0
        return make_raster("constants.tif", pixels, bands=order, nodata=0, **options)

    return make


def expected(model_id, level):
    """Return what each band's constant becomes."""
    norm = find_published(model_id).normalisation(level)
    rows = zip(find_published(model_id).bands, norm.mean, norm.std, strict=True)
    return {name: (STORED[name] / 10_000 - mean) / std for name, mean, std in rows}


def assert_given(found, model_id, level):
    channels, valid = found
    assert valid.any()
    for name, value in expected(model_id, level).items():
        np.testing.assert_allclose(channels[name][valid], value, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(("model_id", "level"), CASES)
def test_every_band_is_in_its_place(given, constants, model_id, level) -> None:
    order = list(np.random.default_rng(len(model_id)).permutation(ALL))
    assert_given(given(model_id, level, constants(order)), model_id, level)


@pytest.mark.parametrize("order", [ALL, ALL[::-1]], ids=["as usual", "reversed"])
@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_mmearth_is_given_band_8a_before_band_8(given, constants, level, order) -> None:
    channels, valid = given(MMEARTH, level, constants(order))
    assert list(channels)[6:10] == ["B07", "B8A", "B08", "B09"]
    for name, (mean, std) in MMEARTH_B8[level].items():
        assert channels[name][valid] == pytest.approx((STORED[name] - mean) / std, abs=1e-4)


@pytest.mark.parametrize("order", [ALL, ALL[::-1]], ids=["as usual", "reversed"])
def test_ssl4eo_is_given_band_8_before_band_8a(given, constants, order) -> None:
    channels, valid = given(SSL4EO, "L1C", constants(order))
    assert list(channels) == ALL
    for name in ("B08", "B8A"):
        assert channels[name][valid] == pytest.approx(STORED[name] / 10_000)


@pytest.mark.parametrize(
    ("model_id", "level"), [(MMEARTH, "L1C"), (MMEARTH, "L2A"), (SSL4EO, "L1C")]
)
class TestOffset:
    """Products since processing baseline 04.00 store reflectance x 10000 + 1000."""

    def test_of_a_product_is_removed_once(self, given, tmp_path, model_id, level) -> None:
        values = {name: stored + 1000 for name, stored in STORED.items()}
        safe = write_product(tmp_path, level[1:], offset=-1000, values=values)
        assert_given(given(model_id, level, safe), model_id, level)

    def test_is_not_removed_from_an_older_product(self, given, tmp_path, model_id, level) -> None:
        safe = write_product(tmp_path, level[1:], offset=None, values=STORED)
        assert_given(given(model_id, level, safe), model_id, level)

    def test_that_a_file_states_is_removed_once(self, given, constants, model_id, level) -> None:
        path = constants(ALL, added=1000, scale=0.0001, offset=-0.1)
        assert_given(given(model_id, level, path), model_id, level)

    def test_that_the_user_states_is_removed_once(self, given, constants, model_id, level) -> None:
        path = constants(ALL, added=1000)
        found = given(model_id, level, path, Radiometry(offset=-0.1))
        assert_given(found, model_id, level)

    def test_leaves_no_data_exactly_zero(self, given, tmp_path, model_id, level) -> None:
        values = {name: stored + 1000 for name, stored in STORED.items()}
        safe = write_product(tmp_path, level[1:], offset=-1000, values=values)
        channels, valid = given(model_id, level, safe)
        assert not valid.all()
        assert all((channel[~valid] == 0).all() for channel in channels.values())


@pytest.mark.parametrize(("model_id", "level"), CASES)
def test_no_data_is_exactly_zero_after_normalisation(given, constants, model_id, level) -> None:
    channels, valid = given(model_id, level, constants(ALL))
    assert not valid[:10, :10].any() and valid.sum() == 40 * 40 - 100
    for name, channel in channels.items():
        assert (channel[~valid] == 0).all(), name
        assert (channel[valid] != 0).all(), name
