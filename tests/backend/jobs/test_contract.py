"""Rules that every job kind keeps."""

from __future__ import annotations

import json
import shutil
from typing import get_args

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from scenes import UTM, write_places

from mmearth import api
from mmearth.errors import JobCancelled
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import KINDS, plan_job, run_job


def segment(scene, folder) -> api.SegmentSpec:
    return api.SegmentSpec(
        inputs=[api.RasterInput(path=str(scene))],
        model="tiny",
        outputs=api.SegmentOutputs(classes=str(folder / "classes.tif")),
    )


def embed(scene, folder) -> api.EmbedSpec:
    return api.EmbedSpec(
        inputs=[api.RasterInput(path=str(scene))],
        model="tiny",
        outputs=api.EmbedOutputs(features=str(folder / "features.tif")),
    )


def disturbance(scene, folder) -> api.DisturbanceSpec:
    later = scene.with_name("later.tif")
    with rasterio.open(scene) as source:
        values, profile, names = source.read(), source.profile, source.descriptions
    values[:, 50:90, 50:90] //= 3
    with rasterio.open(later, "w", **profile) as target:
        target.write(values)
        target.descriptions = names
    before, after = (
        api.DateScene(inputs=[api.RasterInput(path=str(path))]) for path in (scene, later)
    )
    outputs = api.DisturbanceOutputs(classes=str(folder / "classes.tif"))
    return api.DisturbanceSpec(before=before, after=after, model="tiny", outputs=outputs)


def similarity(scene, folder) -> api.SimilaritySpec:
    features = np.random.default_rng(0).normal(size=(4, 20, 30)).astype(np.float32)
    path, places = scene.with_name("features.tif"), scene.with_name("places.gpkg")
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=4, height=20, width=30, crs=UTM,
        transform=from_origin(600_000, 5_400_000, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write(features)
    write_places(places, [shapely.Point(600_105, 5_399_905)])
    return api.SimilaritySpec(
        features=str(path),
        references=str(places),
        outputs=api.SimilarityOutputs(similarity=str(folder / "similarity.tif")),
    )


def classes(scene):
    """Write a class map of two classes over the scene."""
    path = scene.with_name("map.tif")
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, height=20, width=30, crs=UTM, nodata=0,
        transform=from_origin(600_000, 5_400_000, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write(np.repeat([[1], [2]], 10, axis=0).repeat(30, axis=1).astype(np.uint8), 1)
    return path


def sampledesign(scene, folder) -> api.SampleDesignSpec:
    return api.SampleDesignSpec(
        raster=str(classes(scene)),
        size=100,
        outputs=api.SampleOutputs(sample=str(folder / "sample.gpkg")),
    )


def assess(scene, folder) -> api.AssessSpec:
    path, reference = classes(scene), scene.with_name("reference.gpkg")
    points = [shapely.Point(600_005 + 20 * n, 5_399_905 - 100 * (n % 2)) for n in range(10)]
    pyogrio.raw.write(
        reference, shapely.to_wkb(points), [np.array([1, 2] * 5)], ["class"],
        geometry_type="Point", crs="EPSG:32632",
    )  # fmt: skip
    return api.AssessSpec(
        map=str(path),
        reference=str(reference),
        field="class",
        outputs=api.AssessOutputs(table=str(folder / "table.csv")),
    )


def export(_scene, folder) -> api.ExportSpec:
    return api.ExportSpec(model="tiny", target=str(folder / "tiny.zip"))


def drawn(scene) -> api.LabelSource:
    """Draw a square of each of two classes."""
    path = scene.with_name("drawn.gpkg")
    squares = [shapely.box(x, 5_399_300, x + 100, 5_399_400) for x in (600_500, 600_900)]
    pyogrio.raw.write(
        path, shapely.to_wkb(squares), field_data=[np.array(["a", "b"], object)],
        fields=["class"], geometry_type="Polygon", crs="EPSG:32632",
    )  # fmt: skip
    return api.LabelSource(path=str(path), field="class")


def finetune(scene, _folder) -> api.FinetuneSpec:
    return api.FinetuneSpec(
        inputs=[api.RasterInput(path=str(scene))],
        model="tiny",
        labels=drawn(scene),
        validation=0.0,
    )


def evaluate(scene, folder) -> api.EvaluateSpec:
    rows = []
    for number, cover in enumerate(("wood", "field", "wood")):
        path = scene.with_name(f"tile{number}.tif")
        with rasterio.open(scene) as source:
            values, profile, names = source.read(), source.profile, source.descriptions
        profile["transform"] = from_origin(600_000 + 9000 * number, 5_400_000, 10, 10)
        with rasterio.open(path, "w", **profile) as target:
            target.write(values)
            target.descriptions = names
        rows.append({"file": path.name, "split": "val" if number == 2 else "train", "is": cover})
    scene.with_name("index.json").write_text(json.dumps(rows))
    return api.EvaluateSpec(
        data=str(scene.parent),
        labels=api.TileLabels(field="is"),
        encoders=[api.EncoderChoice(model="tiny")],
        steps=2,
        outputs=api.EvaluateOutputs(folder=str(folder / "evaluation")),
    )


def pair(scene, folder) -> api.PairSpec:
    return api.PairSpec(
        images=[api.PairImage(inputs=[api.RasterInput(path=str(scene))], level="L2A")],
        size=32,
        outputs=api.PairOutputs(folder=str(folder / "pairs")),
    )


def pretrain(scene, folder) -> api.PretrainSpec:
    index = [{"file": scene.name, "level": "L2A"}]
    scene.with_name("index.json").write_text(json.dumps(index))
    return api.PretrainSpec(
        data=str(scene.parent),
        encoder="mmearth-zepto-p8",
        steps=2,
        batch=2,
        crop=16,
        outputs=api.PretrainOutputs(model=str(folder / "encoder")),
    )


def install(_scene, folder) -> api.InstallSpec:
    return api.InstallSpec(source=str(folder.with_name("copy")))


def preview(scene, folder) -> api.PreviewSpec:
    return api.PreviewSpec(
        inputs=[api.RasterInput(path=str(scene))],
        model="tiny",
        labels=drawn(scene),
        outputs=api.PreviewOutputs(classes=str(folder / "classes.tif")),
    )


def views(scene, folder) -> api.ViewsSpec:
    scenes = scene.with_name("scenes")
    scenes.mkdir()
    shutil.copy(scene, scenes)
    outputs = api.ViewsOutputs(folder=str(folder / "patches"))
    return api.ViewsSpec(scenes=str(scenes), size=32, step=8, outputs=outputs)


# kind -> function that makes a request, of a small scene, with results in a folder
SPECS = {
    "assess": assess,
    "disturbance": disturbance,
    "embed": embed,
    "evaluate": evaluate,
    "export": export,
    "finetune": finetune,
    "install": install,
    "pair": pair,
    "pretrain": pretrain,
    "preview": preview,
    "sampledesign": sampledesign,
    "segment": segment,
    "similarity": similarity,
    "views": views,
}


@pytest.fixture
def settings(settings, tiny_model, tmp_path, out):
    """Settings whose folder of the user's own models is that of the results."""
    copy = shutil.copytree(tiny_model.folder, tmp_path / "copy")
    card = (copy / "model.json").read_text().replace('"id": "tiny"', '"id": "copy"')
    (copy / "model.json").write_text(card)
    (settings.home / "models").unlink()
    (settings.home / "models").symlink_to(out)
    return settings.model_copy(update={"models": tiny_model.folder.parent})


@pytest.mark.parametrize("kind", KINDS)
class TestJobContract:
    def test_kind_is_in_the_interface(self, kind) -> None:
        for union in (api.JobSpec, api.JobResult):
            members = get_args(get_args(union)[0])
            assert kind in [member.model_fields["kind"].default for member in members]

    def test_plans_and_runs(self, kind, scene, settings, out) -> None:
        spec = SPECS[kind](scene, out)
        assert spec.kind == kind
        assert plan_job(spec, settings).ready
        assert run_job(spec, JobContext(settings)).kind == kind
        assert list(out.iterdir())

    def test_cancels_before_it_writes(self, kind, scene, settings, out) -> None:
        with pytest.raises(JobCancelled):
            run_job(SPECS[kind](scene, out), JobContext(settings, is_cancelled=lambda: True))
        assert list(out.iterdir()) == []
