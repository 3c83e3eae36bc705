"""What rasters of classes say of themselves."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS

from mmearth.api import LabelClass, RasterInput, SegmentOutputs, SegmentSpec
from mmearth.assessment.classraster import Tally, open_classes
from mmearth.errors import InputError
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import run_job


def test_our_own_maps_name_their_classes(scene, settings, tmp_path) -> None:
    target = tmp_path / "m.tif"
    spec = SegmentSpec(
        inputs=[RasterInput(path=str(scene))],
        model="tiny",
        outputs=SegmentOutputs(classes=str(target)),
    )
    result = run_job(spec, JobContext(settings))
    (tmp_path / "m.tif.aux.xml").unlink()  # as happens on the way to somebody else
    found = open_classes(str(target))
    assert [(row.name, row.title, row.color) for row in found.named.values()] == [
        (row.name, row.title, row.color) for row in result.classes
    ]
    tally = Tally()
    for strip in found.strips():
        tally.add(strip)
    areas = {row.value: (row.pixels, row.hectares) for row in result.classes if row.pixels}
    assert {value: tally.pixels[value] for value in tally.values} == {
        value: pixels for value, (pixels, _) in areas.items()
    }
    for value, (_, hectares) in areas.items():
        assert tally.hectares(value) == pytest.approx(hectares)


def test_names_of_the_request_come_first(make_raster) -> None:
    path = make_raster("m.tif", np.ones((4, 5), np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (1, 2, 3, 255), 2: (9, 9, 9, 255)})
        dataset.update_tags(MMEARTH_CLASSES="damaged")
    asked = [LabelClass(value="1", title="Forest"), LabelClass(value="x", title="no code")]
    found = open_classes(str(path), asked)
    assert (found.class_of(1).title, found.class_of(1).color) == ("Forest", "#010203")
    assert (found.class_of(2).title, found.class_of(2).color) == ("2", "#090909")
    assert list(found.named) == [1]  # a table of colours has 256, most of which mean nothing


def test_names_in_a_virtual_raster(make_raster, tmp_path) -> None:
    path = make_raster("m.tif", np.ones((4, 5), np.uint8))
    virtual = tmp_path / "m.vrt"
    subprocess.run(["gdal_translate", "-q", "-of", "VRT", str(path), str(virtual)], check=True)
    text = virtual.read_text().replace(
        '<VRTRasterBand dataType="Byte" band="1">',
        '<VRTRasterBand dataType="Byte" band="1"><CategoryNames><Category/>'
        "<Category>Forest</Category></CategoryNames>",
    )
    virtual.write_text(text)
    assert open_classes(str(virtual)).class_of(1).title == "Forest"


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32"])
def test_every_kind_of_whole_number_is_counted(make_raster, kind) -> None:
    values = np.random.default_rng(0).choice([0, 3, 7, 120], (50, 40)).astype(kind)
    if kind.startswith("int"):
        values[0, :5] = -4
    found = open_classes(str(make_raster("m.tif", values, nodata=7)))
    tally = Tally()
    for strip in found.strips():
        tally.add(strip)
    codes, counts = np.unique(values[values != 7], return_counts=True)
    assert tally.pixels == dict(zip(codes.tolist(), counts.tolist(), strict=True))


def test_a_rotated_raster(make_raster, tmp_path) -> None:
    path = shutil.copy(make_raster("m.tif", np.ones((4, 5), np.uint8)), tmp_path / "r.tif")
    with rasterio.open(path, "r+") as dataset:
        dataset.transform = rasterio.Affine(10, 2, 600_000, 2, -10, 5_400_000)
        dataset.crs = CRS.from_epsg(32632)
    with pytest.raises(InputError, match="do not run from west to east"):
        open_classes(str(path))
