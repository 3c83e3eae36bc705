"""Labelled tiles: read as they are, and nothing that is learned from is tested on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scenes import MODEL_BANDS, S2

from mmearth.api import EncoderChoice, EvaluateOutputs, EvaluateSpec, TileLabels
from mmearth.errors import InputError, RadiometryError
from mmearth.evaluation.cells import Cell, Evaluation
from mmearth.evaluation.encoders import Candidate
from mmearth.evaluation.tiles import find_tiles, read_parts, share_of
from mmearth.models.parts import Normalisation
from mmearth.pretraining.modality import UNKNOWN


def spec(folder, **fields) -> EvaluateSpec:
    labels = {key: fields.pop(key) for key in ("field", "suffix", "codes", "nodata")
              if key in fields}  # fmt: skip
    return EvaluateSpec(
        data=str(folder),
        labels=TileLabels(**(labels or {"field": "cover"})),
        encoders=[EncoderChoice(model="tiny")],
        outputs=EvaluateOutputs(folder="/tmp/unused"),
        **fields,
    )


def parts(folder, crop=16, **fields):
    tiles = find_tiles(spec(folder, **fields))
    return tiles, *read_parts(tiles, MODEL_BANDS, "sentinel-2", crop)


def test_one_label_an_image(make_tiles) -> None:
    tiles, train, test, warnings = parts(make_tiles())
    assert (tiles.kind, tiles.classes) == ("single", ("dark", "grey", "light"))
    assert train.images.shape == (9, 10, 16, 16) and len(test) == 3 and warnings == []
    assert train.labels.tolist() == [0, 1, 2, 1, 2, 0, 2, 0, 1]
    np.testing.assert_allclose(train.images[0, :, :, :8].mean(), 0.05, atol=0.002)


def test_several_labels_an_image(make_tiles) -> None:
    tiles, train, _, _ = parts(make_tiles(), field="shows")
    assert tiles.kind == "multi" and train.labels.dtype == np.float32
    assert train.labels[[0, 3]].tolist() == [[1, 0, 0], [0, 1, 1]]


def test_labels_of_pixels(make_tiles) -> None:
    tiles, train, test, _ = parts(make_tiles(), suffix=".label.tif")
    assert (tiles.kind, tiles.classes) == ("pixel", ("1", "2", "3"))
    assert len(train) == 9 * 4 and len(test) == 3 * 4  # four crops a tile
    assert set(np.unique(train.labels)) == {0, 1, 2}
    tiles, train, _, _ = parts(make_tiles(), crop=24, suffix=".label.tif", nodata=3)
    assert tiles.classes == ("1", "2") and UNKNOWN in train.labels


def test_probabilities_of_pixels(make_tiles, make_raster) -> None:
    folder = make_tiles()
    for number in range(12):
        values = np.zeros((2, 32, 32), np.uint8)
        values[number % 2] = 250
        make_raster(f"tiles/t{number:02}.soft.tif", values, bands=("water", "trees"))
    tiles, train, _, _ = parts(folder, suffix=".soft.tif")
    assert tiles.classes == ("water", "trees")
    assert set(np.unique(train.labels[train.tiles == 0])) == {0}


def test_tiles_that_are_too_small_are_told(make_tiles, make_raster) -> None:
    folder = make_tiles()
    make_raster("tiles/t00.tif", np.full((12, 20, 20), 900, np.uint16), bands=S2, nodata=0)
    _, train, _, (warning,) = parts(folder, crop=24)
    assert len(train) == 8 and "1 tile of 12" in warning.message
    with pytest.raises(InputError, match="No tile holds an image of 48 x 48"):
        parts(folder, crop=48)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"group": "t00"}, "Groups of tiles are in both parts: t00"),
        ({"file": "t00.tif"}, "Tiles are in both parts: t00.tif"),
        ({"cover": None}, "1 of 12 tiles have no 'cover'"),
        ({"cover": ["dark"]}, "a list of labels for 1 of 12 tiles"),
        ({"split": None}, "1 of the 12 tiles .* have no split"),
    ],
)
def test_what_is_no_test_is_refused(make_tiles, relabel, change, words) -> None:
    folder = make_tiles()
    relabel(folder, [3], **change)
    with pytest.raises(InputError, match=words):
        find_tiles(spec(folder))


def test_the_same_ground_is_refused(make_tiles, make_raster) -> None:
    folder = make_tiles()
    shifted = (600_000.0 + 3 * 1000 - 160, 5_400_000.0)
    make_raster(
        "tiles/t04.tif", np.full((12, 32, 32), 900, np.uint16), bands=S2, origin=shifted, nodata=0
    )
    with pytest.raises(InputError, match=r"1 pair of tiles .* same ground: t04.tif and t03.tif"):
        find_tiles(spec(folder))


def test_other_requests_that_cannot_be(make_tiles) -> None:
    folder = make_tiles()
    with pytest.raises(InputError, match="12 of 12 tiles have no label raster"):
        find_tiles(spec(folder, suffix=".nothing.tif"))
    with pytest.raises(InputError, match="'train' would be learned from and tested on"):
        find_tiles(spec(folder, test="train"))
    with pytest.raises(ValidationError, match="either a field"):
        spec(folder, field="cover", suffix=".label.tif")
    rows = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps([{**row, "cover": "one"} for row in rows]))
    with pytest.raises(InputError, match="All tiles have the same 'cover': one"):
        find_tiles(spec(folder))


def test_a_share_holds_every_class_and_hangs_on_the_seed(make_tiles) -> None:
    tiles, train, _, _ = parts(make_tiles(36))
    drawn = [share_of(train, 0.1, 3, tiles.kind, seed) for seed in (0, 0, 1)]
    assert all(set(one.labels) == {0, 1, 2} for one in drawn) and len(drawn[0]) == 3
    assert drawn[0].tiles.tolist() == drawn[1].tiles.tolist() != drawn[2].tiles.tolist()
    assert len(share_of(train, 0.5, 3, tiles.kind, 0)) == pytest.approx(len(train) / 2, abs=2)
    assert share_of(train, 1.0, 3, tiles.kind, 0) is train


def test_images_are_read_as_each_sensor_measures(make_tiles, tiny_model) -> None:
    """Names of bands may be those of several sensors, whose numbers mean something else."""
    asked = spec(make_tiles(), crop=16)
    evaluation = Evaluation(asked, find_tiles(asked), torch.device("cpu"))
    changes = {"bands": ("B02", "B03", "B04"),
               "normalisation": Normalisation(mean=(0.1,) * 3, std=(0.1,) * 3)}  # fmt: skip
    for sensor in ("sentinel-2", "landsat-8-9"):
        card = tiny_model.model_copy(update={**changes, "sensor": sensor})
        candidate, cell = Candidate(sensor, card, random=True), Cell(sensor, "knn", 1.0, 0)
        if sensor == "sentinel-2":
            assert evaluation.compute(candidate, cell).images == 9
        else:  # whose numbers would all be below 0
            with pytest.raises(RadiometryError, match="no reflectance"):
                evaluation.compute(candidate, cell)
