"""A plan says what stands out, without standing in the way."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import torch
from scenes import DATA, ROOT, S2

from mmearth.api import BandChoice, MaskInput, Plan, Radiometry, RasterInput, SegmentSpec
from mmearth.jobs.prepare import plan
from mmearth.models.save import save_model


def test_bands_that_share_a_raster_band_are_a_warning(scene, settings) -> None:
    spec = SegmentSpec(
        inputs=[RasterInput(path=str(scene), label="")],
        model="tiny",
        bands=[BandChoice(band=name, input=0, index=2) for name in ("B02", "B03")],
    )
    result = plan(spec, settings)
    assert result.ready
    [warning] = [warning for warning in result.warnings if warning.code == "shared_bands"]
    assert "B02 and B03" in warning.message


def test_a_model_that_predicts_values_is_refused_in_words(
    scene, settings, tiny_facts, tmp_path
) -> None:
    value = {"name": "density", "title": "tree cover density", "unit": "%", "range": (0, 100)}
    facts = {"id": "density", "task": "regression", "classes": (), "products": (), "value": value}
    save_model(tmp_path / "more" / "density", {"x": torch.ones(1)}, {**tiny_facts, **facts})
    settings = settings.model_copy(update={"models": tmp_path / "more"})
    spec = SegmentSpec(inputs=[RasterInput(path=str(scene), label="")], model="density")
    [problem] = plan(spec, settings).errors
    assert problem.code == "model" and "does not map classes" in problem.message
    assert "predicts tree cover density, 0 to 100 %" in problem.message


def shipped(path, settings, **more) -> Plan:
    """Return the plan of mapping a raster with the model that is shipped."""
    settings = settings.model_copy(update={"models": ROOT / "resources" / "models"})
    inputs = [RasterInput(path=str(path), label="")]
    return plan(SegmentSpec(inputs=inputs, model="landcover-s2", **more), settings)


def codes(result: Plan) -> list[str]:
    return [warning.code for warning in result.warnings]


def test_a_scene_unlike_the_training_images_is_a_warning(make_raster, settings) -> None:
    with rasterio.open(DATA / "terramind_l2a.tif") as dataset:
        values = dataset.read()
    assert codes(shipped(DATA / "terramind_l2a.tif", settings)) == []
    assert codes(shipped(ROOT / "resources/sample/thailand_20200223.tif", settings)) == []
    radiometry = Radiometry(scale=0.001)
    bright = shipped(DATA / "terramind_l2a.tif", settings, radiometry=radiometry)
    assert bright.ready and codes(bright) == ["unlike_training"]
    [warning] = bright.warnings
    assert "brighter" in warning.message and "Check scale and offset" in warning.advice
    floats = (values / 10_000 + 0.1).astype(np.float32)
    lifted = make_raster("lifted.tif", floats, bands=S2)
    assert codes(shipped(lifted, settings)) == ["unlike_training"]


@pytest.mark.parametrize("pixel", [10, 30])
def test_the_hint_looks_past_what_a_mask_leaves_out(make_raster, settings, pixel) -> None:
    with rasterio.open(DATA / "terramind_l2a.tif") as dataset:
        values = dataset.read()
        profile = {name: dataset.profile[name] for name in ("crs", "transform")}
    clouds = np.zeros(values.shape[1:], np.uint8)
    clouds[:60] = 1
    path = make_raster("clouded.tif", np.where(clouds, 9000, values), bands=S2)
    steps = pixel // 10
    mask = make_raster("clouds.tif", clouds[::steps, ::steps])
    for name, factor in ((path, 1), (mask, steps)):
        with rasterio.open(name, "r+") as dataset:
            dataset.crs = profile["crs"]
            dataset.transform = profile["transform"] @ rasterio.Affine.scale(factor)
    assert codes(shipped(path, settings)) == ["unlike_training"]
    assert codes(shipped(path, settings, masks=[MaskInput(path=str(mask))])) == []


def test_an_offset_is_told_once(make_raster, settings) -> None:
    with rasterio.open(DATA / "terramind_l2a.tif") as dataset:
        values = dataset.read() + 1000
    lifted = make_raster("lifted.tif", values.astype(np.uint16), bands=S2)
    assert codes(shipped(lifted, settings)) == ["offset"]


def test_without_statistics_there_is_no_hint(scene, settings) -> None:
    inputs = [RasterInput(path=str(scene), label="")]
    spec = SegmentSpec(inputs=inputs, model="tiny", radiometry=Radiometry(scale=0.001))
    assert "unlike_training" not in codes(plan(spec, settings))
