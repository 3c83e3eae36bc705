"""Tree density: the calibrated probability of trees, by pixel and by cell, and its areas."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.crs import CRS
from safetensors.torch import load_file
from scenes import MODEL_BANDS, S2, scene_values

from mmearth.api import ClassArea, RasterInput, SegmentOutputs, SegmentSpec
from mmearth.errors import InputError, JobCancelled, ModelError
from mmearth.jobs.choose import choose_model
from mmearth.jobs.context import JobContext
from mmearth.jobs.density import unlike_mask
from mmearth.jobs.registry import plan_job, run_job
from mmearth.models.card import ClassRow, Product
from mmearth.models.save import save_model

ENDINGS = {"table": "csv"}


def spec_of(folder: Path, path, *outputs: str, **more) -> SegmentSpec:
    named = {name: str(folder / f"{name}.{ENDINGS.get(name, 'tif')}") for name in outputs}
    facts = {"model": "tiny", "product": "treemask", **more}
    inputs = [RasterInput(path=str(path), label="")]
    return SegmentSpec(inputs=inputs, outputs=SegmentOutputs(**named), **facts)


def read(path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


def test_pixels_cells_and_table_agree(scene, settings, out) -> None:
    spec = spec_of(out, scene, "density", "density_cells", "table", "probabilities")
    result = run_job(spec, JobContext(settings))
    empty = (read(scene) == 0).any(axis=0)
    density = read(out / "density.tif")[0]
    assert density.dtype == np.uint16
    np.testing.assert_array_equal(density == 65535, empty)
    trees = read(out / "probabilities.tif")[0]
    assert (np.abs(density[~empty] / 100 - trees[~empty]) <= 0.51).all()
    with rasterio.open(out / "density.tif") as dataset:
        assert dataset.scales == (0.01,) and dataset.units == ("%",)
        assert "Trees" in dataset.descriptions[0]

    with rasterio.open(out / "density_cells.tif") as dataset:
        mean, share = dataset.read()
        assert dataset.res == (100, 100) and dataset.bounds[0] % 100 == 0
        assert dataset.tags()["MMEARTH_CELL"] == "100 m"
    known = (~empty).reshape(15, 10, 13, 10)
    sums = np.where(empty, 0, density.astype(float)).reshape(15, 10, 13, 10).sum(axis=(1, 3))
    np.testing.assert_array_equal(share, (known.mean(axis=(1, 3)) * 10_000).round())
    enough = share >= 5000
    assert enough.any() and not enough.all()
    expected = sums[enough] / known.sum(axis=(1, 3))[enough]
    assert (np.abs(mean[enough] - expected) <= 0.5).all()
    assert (mean[~enough] == 65535).all()

    with (out / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    tree_row, rest = result.classes
    assert float(table[0]["cover_ha"]) == pytest.approx(tree_row.cover_hectares, abs=1e-4)
    total = sum(row.hectares for row in result.classes)
    assert tree_row.cover_hectares + rest.cover_hectares == pytest.approx(total)
    # All pixels of this small scene cover nearly the same ground.
    assert tree_row.cover_percent == pytest.approx(density[~empty].mean() / 100, abs=0.01)
    assert tree_row.cover_hectares == pytest.approx(total * tree_row.cover_percent / 100)
    assert not (out / "classes.tif").exists()


def test_density_is_the_calibrated_probability(scene, settings, out, tiny_model) -> None:
    """The card's temperature counts: a hotter one brings all pixels nearer to one another."""
    run_job(spec_of(out, scene, "density"), JobContext(settings))
    facts = {name: getattr(tiny_model, name) for name in type(tiny_model).model_fields}
    for name in ("sha256", "weights_name", "folder"):
        facts.pop(name)
    hot = {**facts, "id": "hot", "temperature": 5.0}
    save_model(out / "more" / "hot", load_file(tiny_model.weights), hot)
    more = settings.model_copy(update={"models": out / "more"})
    (out / "hot").mkdir()
    run_job(spec_of(out / "hot", scene, "density", model="hot"), JobContext(more))
    cold, hot = read(out / "density.tif")[0], read(out / "hot" / "density.tif")[0]
    known = cold != 65535
    assert hot[known].std() < 0.6 * cold[known].std()


def test_a_cancelled_run_goes_on(scene, settings, out) -> None:
    run_job(spec_of(out, scene, "density", "density_cells"), JobContext(settings))
    whole = read(out / "density.tif"), read(out / "density_cells.tif")
    (out / "again").mkdir()
    spec = spec_of(out / "again", scene, "density", "density_cells", cell_m=50)
    progress = [0.0]
    impatient = JobContext(
        settings,
        report=lambda share, *_: progress.append(share),
        is_cancelled=lambda: progress[-1] > 0.5,
    )
    with pytest.raises(JobCancelled):
        run_job(spec, impatient)
    assert not list((out / "again").iterdir())
    [folder] = settings.work_folder.iterdir()
    assert int((folder / "rows_done").read_text()) > 0
    run_job(spec, JobContext(settings))
    np.testing.assert_array_equal(read(out / "again" / "density.tif"), whole[0])
    assert read(out / "again" / "density_cells.tif").shape == (2, 30, 26)


def row_of(value: int, name: str) -> ClassRow:
    return ClassRow(value=value, name=name, title=name.title(), color="#000000")


def area_of(value: int, mask: float, cover: float) -> ClassArea:
    row = row_of(value, str(value)).model_dump()
    return ClassArea(
        **{key: row[key] for key in ("value", "name", "title", "color")},
        pixels=int(100 * mask), hectares=mask, percent=mask / 10,
        cover_hectares=cover, cover_percent=cover / 10,
    )  # fmt: skip


def test_an_area_unlike_that_of_the_mask_is_explained() -> None:
    product = Product(
        id="treemask", title="Tree mask", classes=(row_of(1, "trees"), row_of(2, "other")),
        members=("trees",), threshold=0.23,
    )  # fmt: skip

    def told(mask: float, cover: float) -> list[str]:
        rows = [area_of(1, mask, cover), area_of(2, 1000 - mask, 1000 - cover)]
        return [problem.message for problem in unlike_mask(rows, product)]

    [words] = told(600, 380)
    assert "Tree mask: 600.0 ha" in words and "380.0 ha" in words and "from 23 % on" in words
    assert told(200, 300) != []
    assert told(600, 560) == []  # 7 % of it
    assert told(1, 8) == []  # far apart, but less than a hundredth of the ground


def test_what_has_no_density_is_refused_before_the_run(scene, settings, out) -> None:
    spec = spec_of(out, scene, "density", product="landcover")
    [problem] = plan_job(spec, settings).errors
    assert "Land cover has no density: it maps 3 classes" in problem.message
    with pytest.raises(ModelError):
        run_job(spec, JobContext(settings))


def test_cells_of_a_map_in_degrees_are_refused_before_the_run(make_raster, settings, out) -> None:
    path = make_raster(
        "degrees.tif", scene_values(64, 64), bands=S2, nodata=0, crs=CRS.from_epsg(4326),
        pixel=0.0001, origin=(11.0, 50.0),
    )  # fmt: skip
    spec = spec_of(out, path, "density", "density_cells")
    [problem] = plan_job(spec, settings).errors
    assert "Cells of 100 m need a map in metres" in problem.message
    with pytest.raises(InputError):
        run_job(spec, JobContext(settings))
    assert plan_job(spec_of(out, path, "density"), settings).ready


def test_cells_that_the_projection_stretches_are_a_warning(make_raster, settings, out) -> None:
    path = make_raster(
        "mercator.tif", scene_values(64, 64), bands=S2, nodata=0, crs=CRS.from_epsg(3857),
        origin=(1_700_000, 6_400_000),
    )  # fmt: skip
    result = plan_job(spec_of(out, path, "density_cells"), settings)
    [warning] = [row for row in result.warnings if row.code == "cell_size"]
    assert "cells of 100 m measure 65 m on the ground" in warning.message


def test_a_rotated_raster_has_cells_too(make_raster, settings, out) -> None:
    path = make_raster("turned.tif", scene_values(64, 64), bands=S2, nodata=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "r+") as dataset:
            dataset.transform = dataset.transform @ rasterio.Affine.rotation(30)
    run_job(spec_of(out, path, "density", "density_cells"), JobContext(settings))
    with rasterio.open(out / "density_cells.tif") as dataset:
        assert dataset.transform.b == dataset.transform.d == 0
        assert (dataset.read(1) != 65535).any()


def test_the_model_is_chosen_by_what_the_rasters_hold(
    make_raster, settings, out, tiny_facts, tiny_model
) -> None:
    visible = ("B02", "B03", "B04")
    norm = {**tiny_facts["normalisation"], "mean": (1.2,) * 3, "std": (0.8,) * 3}
    facts = {"id": "a-visible", "bands": visible, "normalisation": norm}
    save_model(out / "more" / "a-visible", {"x": torch.ones(1)}, {**tiny_facts, **facts})
    settings = settings.model_copy(update={"models": out / "more"})
    values = scene_values(64, 64)
    full = make_raster("full.tif", values, bands=S2, nodata=0)
    bare = make_raster("rgb.tif", values[1:4], bands=S2[1:4], nodata=0)
    spec = spec_of(out, full, "density", model="")
    assert choose_model(spec, settings).model == "tiny" and len(MODEL_BANDS) > 3
    assert choose_model(spec_of(out, bare, "density", model=""), settings).model == "a-visible"
    with pytest.raises(ModelError, match="No installed model maps 'moon'"):
        choose_model(spec_of(out, full, "classes", model="", product="moon"), settings)
