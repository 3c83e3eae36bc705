"""The features job: where its pixels lie, what its picture shows, what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from scenes import S2, scene_values

from mmearth.api import EmbedOutputs, EmbedSpec, Extent, RasterInput, SegmentOutputs, SegmentSpec
from mmearth.errors import EmptyAreaError, InputError, JobCancelled, ModelError
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import plan_job, run_job
from mmearth.models.card import NetworkConfig
from mmearth.models.registry import build_network
from mmearth.models.save import save_model

CELL = 2  # of the tiny model's encoder


def spec_of(folder: Path, path, outputs=("features", "view"), **more) -> EmbedSpec:
    named = EmbedOutputs(**{name: str(folder / f"{name}.tif") for name in outputs})
    given = {"inputs": [RasterInput(path=str(path))], "model": "tiny", "outputs": named}
    return EmbedSpec(**{**given, **more})


def read(path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


def test_pixels_lie_where_those_of_the_scene_do(settings, out, tiny_model, make_raster) -> None:
    scene = make_raster("odd.tif", scene_values(151, 129), bands=S2, nodata=0)
    result = run_job(spec_of(out, scene), JobContext(settings))
    with rasterio.open(scene) as source, rasterio.open(out / "features.tif") as dataset:
        assert dataset.transform == source.transform @ Affine.scale(CELL)
        assert dataset.crs == source.crs
        assert (dataset.height, dataset.width) == (76, 65)  # of 151 x 129, and a bit beyond
        assert dataset.count == result.features and set(dataset.dtypes) == {"float32"}
        assert np.isnan(dataset.nodata)
        assert dataset.descriptions[:2] == ("feature 1", "feature 2")
        tags = dataset.tags()
        empty = (source.read() == 0).any(axis=0)
        values = dataset.read()
    assert tags["MMEARTH_MODEL"] == "tiny" and tags["MMEARTH_STRIDE"] == str(CELL)
    assert tags["MMEARTH_MODEL_SHA256"] == tiny_model.sha256
    cells = np.pad(empty, ((0, 1), (0, 1)), constant_values=True)
    cells = cells.reshape(76, CELL, 65, CELL).all(axis=(1, 3))
    np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(cells, values.shape))
    assert result.nodata_pixels == cells.sum() > 0
    assert (result.grid.width, result.grid.height) == (65, 76)
    assert result.grid.pixel_m == pytest.approx(20, rel=0.01)
    assert not any(settings.work_folder.iterdir())


def test_features_follow_what_is_there(scene, settings, out) -> None:
    """Of a part of a scene, away from its rim, they are those of the whole."""
    run_job(spec_of(out, scene, outputs=("features",)), JobContext(settings))
    part = Extent(bounds=(600_320, 5_398_500, 601_300, 5_399_680), crs="EPSG:32632")
    (out / "part").mkdir()
    run_job(spec_of(out / "part", scene, outputs=("features",), extent=part), JobContext(settings))
    whole, found = read(out / "features.tif"), read(out / "part" / "features.tif")
    whole = whole[:, 16:, 16:][:, : found.shape[1], : found.shape[2]]
    inside = np.s_[:, 6:-6, 6:-6]
    np.testing.assert_allclose(found[inside], whole[inside], atol=1e-4)


def test_picture_shows_the_principal_components(scene, settings, out) -> None:
    result = run_job(spec_of(out, scene), JobContext(settings))
    features, view = read(out / "features.tif"), read(out / "view.tif")
    with rasterio.open(out / "view.tif") as dataset:
        assert [role.name for role in dataset.colorinterp] == ["red", "green", "blue"]
        assert dataset.nodata == 0 and dataset.dtypes[0] == "uint8"
    valid = np.isfinite(features[0])
    assert (view[:, ~valid] == 0).all() and (view[:, valid] > 0).all()
    values = features[:, valid].astype(float)
    values -= values.mean(axis=1, keepdims=True)
    vectors, sizes, _ = np.linalg.svd(values, full_matrices=False)
    shares = sizes**2 / (sizes**2).sum()
    np.testing.assert_allclose(result.explained, shares[:3], rtol=1e-4)
    for band, vector in zip(view, vectors.T, strict=False):
        shown = np.corrcoef(band[valid], vector @ values)[0, 1]
        sign = np.sign(vector[np.abs(vector).argmax()])
        assert shown * sign > 0.98  # the ends are cut at 2 and 98 %
        assert 0.01 < (band[valid] == 255).mean() < 0.03


def test_the_same_picture_again(scene, settings, out) -> None:
    maps = []
    for name in ("a", "b"):
        (out / name).mkdir()
        run_job(spec_of(out / name, scene, outputs=("view",)), JobContext(settings))
        maps.append(read(out / name / "view.tif"))
    np.testing.assert_array_equal(*maps)


def test_an_encoder_that_maps_nothing(scene, settings, out, tiny_facts) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(decoder="features", encoder="mmearth-atto-p8", multiply_adds_per_pixel=1)
    module = build_network(config, in_channels=10, classes=0)
    facts = {**tiny_facts, "id": "encoder", "task": "features", "network": config}
    facts |= {"classes": (), "products": ()}
    (settings.home / "models").unlink()  # the tiny model is shared by all tests
    save_model(settings.home / "models" / "encoder", module.state_dict(), facts)
    spec = spec_of(out, scene, model="encoder")
    assert plan_job(spec, settings).ready
    assert run_job(spec, JobContext(settings)).features == 320
    maps = SegmentSpec(
        inputs=spec.inputs, model="encoder", outputs=SegmentOutputs(classes=str(out / "c.tif"))
    )
    with pytest.raises(ModelError, match="maps nothing by itself"):
        run_job(maps, JobContext(settings))
    assert [error.code for error in plan_job(maps, settings).errors] == ["model"]


class Interrupted:
    """Says "cancelled" once a share of the job is done."""

    def __init__(self, settings, share: float) -> None:
        self.share, self.done = share, 0.0
        self.context = JobContext(settings, self.report, lambda: self.done >= share)

    def report(self, share, _stage, _eta) -> None:
        self.done = share


def test_cancelled_leaves_nothing_and_goes_on_from_there(settings, out, make_raster) -> None:
    path = make_raster("tall.tif", scene_values(700, 80), bands=S2, nodata=0)
    with pytest.raises(JobCancelled):
        run_job(spec_of(out, path), Interrupted(settings, 0.5).context)
    assert list(out.iterdir()) == []
    (state,) = settings.work_folder.glob("*/rows_done")
    done = int(state.read_text())
    assert 100 < done < 250  # of 350
    working = next(settings.work_folder.glob("*/features.tif"))
    with rasterio.open(working, "r+") as dataset:
        mark = np.full((dataset.count, 2, dataset.width), 7, np.float32)
        dataset.write(mark, window=rasterio.windows.Window(0, 40, dataset.width, 2))
    run_job(spec_of(out, path), JobContext(settings))
    found = read(out / "features.tif")
    assert (found[:, 40:42] == 7).all()  # what was done is not touched again
    (out / "whole").mkdir()
    run_job(spec_of(out / "whole", path), JobContext(settings))
    whole = read(out / "whole" / "features.tif")
    np.testing.assert_allclose(found[:, 42:], whole[:, 42:], atol=1e-5)


def test_nothing_but_nodata(settings, out, make_raster) -> None:
    path = make_raster("s.tif", np.zeros((12, 90, 90), np.uint16), bands=S2, nodata=0)
    with pytest.raises(EmptyAreaError, match="no data in the chosen area"):
        run_job(spec_of(out, path), JobContext(settings))
    assert list(out.iterdir()) == [] and not any(settings.work_folder.iterdir())


def test_a_scene_that_is_the_same_everywhere(settings, out, make_raster) -> None:
    path = make_raster("s.tif", np.full((12, 1, 1), 2000, np.uint16), bands=S2, nodata=0)
    result = run_job(spec_of(out, path), JobContext(settings))
    assert result.explained == [0, 0, 0]
    assert set(read(out / "view.tif").ravel()) == {128}


def test_what_is_refused(scene, settings, out) -> None:
    copy = Path(shutil.copy(scene, out / "features.tif"))
    picture = spec_of(out, scene)
    picture.outputs.view = str(out / "v.png")
    for spec, words in (
        (spec_of(out, copy), "one of the input rasters"),
        (spec_of(out, scene, outputs=()), "No result is asked for"),
        (picture, "ends with .tif"),
        (spec_of(out, scene, tile_size=65), "multiple of 8"),
    ):
        with pytest.raises(InputError, match=words):
            run_job(spec, JobContext(settings))
    assert read(copy).shape[0] == 12


def test_speeds_of_other_jobs_do_not_count(scene, settings, out) -> None:
    run_job(spec_of(out, scene), JobContext(settings))
    assert plan_job(spec_of(out, scene), settings).seconds_measured
    maps = SegmentSpec(inputs=[RasterInput(path=str(scene))], model="tiny")
    assert not plan_job(maps, settings).seconds_measured
