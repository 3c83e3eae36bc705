"""Masks of clouds in jobs: all leave out the same pixels, and count them apart from no data."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import rasterio
from jobs.test_contract import drawn
from pydantic import ValidationError

from mmearth import api
from mmearth.errors import EmptyAreaError, MMEarthError
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job

HEIGHT, WIDTH = 150, 130


@pytest.fixture
def clouds() -> np.ndarray:
    """Where clouds are: over data, and over some of the corner without."""
    where = np.zeros((HEIGHT, WIDTH), bool)
    where[20:60, 10:90] = True
    return where


@pytest.fixture
def mask(make_raster, clouds) -> api.MaskInput:
    path = make_raster("clouds.tif", np.where(clouds, 100, 10).astype(np.uint8))
    return api.MaskInput(path=str(path), above=40)


def read(path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def segment(out, *paths, **more) -> api.SegmentSpec:
    inputs = [api.RasterInput(path=str(path)) for path in paths]
    outputs = api.SegmentOutputs(classes=str(out / "classes.tif"))
    return api.SegmentSpec(inputs=inputs, model="tiny", outputs=outputs, **more)


def test_all_jobs_leave_out_the_same_pixels(scene, mask, clouds, settings, out) -> None:
    empty = (rasterio.open(scene).read() == 0).all(axis=0)
    lacking = empty | clouds
    result = run_job(segment(out, scene, masks=[mask]), JobContext(settings))
    np.testing.assert_array_equal(read(out / "classes.tif") == 0, lacking)
    assert result.masked_pixels == clouds.sum()
    assert result.nodata_pixels == (empty & ~clouds).sum()
    with rasterio.open(out / "classes.tif") as dataset:
        assert dataset.tags()["MMEARTH_MASKS"] == "clouds.tif: above 40"

    features = str(out / "features.tif")
    spec = api.EmbedSpec(
        inputs=[api.RasterInput(path=str(scene))],
        model="tiny",
        stride=1,
        masks=[mask],
        outputs=api.EmbedOutputs(features=features),
    )
    result = run_job(spec, JobContext(settings))
    np.testing.assert_array_equal(np.isnan(read(features)), lacking)
    assert result.masked_pixels == clouds.sum()

    preview = api.PreviewSpec(
        inputs=[api.RasterInput(path=str(scene))],
        model="tiny",
        labels=drawn(scene),
        masks=[mask],
        outputs=api.PreviewOutputs(classes=str(out / "preview.tif")),
    )
    run_job(preview, JobContext(settings))
    np.testing.assert_array_equal(read(out / "preview.tif") == 0, lacking)


def test_density_leaves_out_the_same_pixels(scene, mask, clouds, settings, out) -> None:
    lacking = (rasterio.open(scene).read() == 0).all(axis=0) | clouds
    files = {name: str(out / f"{name}.tif") for name in ("classes", "density", "density_cells")}
    outputs = api.SegmentOutputs(**files, table=str(out / "table.csv"))
    spec = segment(out, scene, masks=[mask], product="treemask")
    result = run_job(spec.model_copy(update={"outputs": outputs}), JobContext(settings))
    np.testing.assert_array_equal(read(files["density"]) == 65535, lacking)
    with rasterio.open(files["density_cells"]) as dataset:
        share = dataset.read(2) / 10_000
    np.testing.assert_allclose(share, (~lacking).reshape(15, 10, 13, 10).mean(axis=(1, 3)))
    with (out / "table.csv").open() as file:
        trees, rest, masked = csv.DictReader(file)
    assert result.masked_pixels == int(masked["pixels"]) == clouds.sum()
    assert float(masked["area_ha"]) == pytest.approx(clouds.sum() / 100, rel=2e-3)
    assert (masked["class"], masked["percent"], masked["cover_ha"]) == ("0", "", "")
    cover, area = (float(trees[name]) + float(rest[name]) for name in ("cover_ha", "area_ha"))
    assert cover == pytest.approx(area) == pytest.approx((~lacking).sum() / 100, rel=2e-3)
    assert float(trees["cover_ha"]) == pytest.approx(result.classes[0].cover_hectares, abs=1e-4)


def test_nothing_is_learned_under_clouds(scene, make_raster, settings) -> None:
    everywhere = make_raster("overcast.tif", np.ones((HEIGHT, WIDTH), np.uint8))
    spec = api.FinetuneSpec(
        inputs=[api.RasterInput(path=str(scene))],
        model="tiny",
        labels=drawn(scene),
        validation=0.0,
        masks=[api.MaskInput(path=str(everywhere))],
    )
    with pytest.raises(MMEarthError, match="data"):
        run_job(spec, JobContext(settings))


def test_a_scene_classification_is_used_unasked_and_told(
    scene, make_raster, clouds, settings, out
) -> None:
    scl = np.where(clouds, 9, 4).astype(np.uint8)
    scl[:30, :32] = 0  # its own no data, as the scene's
    path = make_raster("T32TNT_SCL.tif", scl, nodata=0)
    plan = plan_job(segment(out, scene, path), settings)
    assert [warning.code for warning in plan.warnings] == ["mask"]
    assert "T32TNT_SCL" in plan.warnings[0].message
    result = run_job(segment(out, scene, path), JobContext(settings))
    assert result.masked_pixels == (clouds & (scl > 0)).sum()
    assert result.nodata_pixels == (scl == 0).sum()
    spec = segment(out, scene, path, scene_classification="ignore")
    result = run_job(spec, JobContext(settings))
    assert (result.warnings, result.masked_pixels) == ([], 0)


def test_all_clouded(scene, make_raster, settings, out) -> None:
    everywhere = make_raster("overcast.tif", np.ones((HEIGHT, WIDTH), np.uint8))
    masked = segment(out, scene, masks=[api.MaskInput(path=str(everywhere))])
    with pytest.raises(EmptyAreaError, match="mask of clouds"):
        run_job(masked, JobContext(settings))
    assert list(out.iterdir()) == []


def test_a_changed_mask_is_another_request(scene, mask, settings, out) -> None:
    """What is left of an interrupted run with other clouds must not be gone on from."""
    calls = iter(range(10_000))
    with pytest.raises(MMEarthError):
        run_job(
            segment(out, scene, masks=[mask], tile_size=32),
            JobContext(settings, is_cancelled=lambda: next(calls) > 25),
        )
    begun = {folder.name for folder in settings.work_folder.iterdir()}
    assert begun
    other = mask.model_copy(update={"above": 5.0})
    with pytest.raises(EmptyAreaError):
        run_job(segment(out, scene, masks=[other], tile_size=32), JobContext(settings))
    assert {folder.name for folder in settings.work_folder.iterdir()} == begun


def test_two_rules_are_refused() -> None:
    with pytest.raises(ValidationError, match="only one of values, above and bits"):
        api.MaskInput.model_validate_json(json.dumps({"path": "a", "values": [1], "above": 2}))
