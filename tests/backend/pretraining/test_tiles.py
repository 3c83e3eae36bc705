"""Folders of tiles: what a batch holds, on the same pixels, and what is refused."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
import torch
from scenes import S2

from mmearth.api import PretrainOutputs, PretrainSpec
from mmearth.errors import InputError, ModelError, RasterReadError
from mmearth.pretraining.modality import UNKNOWN
from mmearth.pretraining.registry import open_dataset, open_held

BANDS = ["B02", "B04", "B08"]
SIDES = [(64, 64), (48, 80), (32, 36)]
DECLARED = {
    "elevation": {"suffix": ".dem.tif", "kind": "continuous", "nodata": -9999},
    "cover": {"suffix": ".cover.tif", "kind": "categorical", "codes": [10, 20], "nodata": 0},
}


@pytest.fixture
def folder(tmp_path, make_raster):
    """Tiles with a teacher, elevation and land cover that all follow from B08."""
    random = np.random.default_rng(0)
    entries = []
    for number, (height, width) in enumerate(SIDES):
        values = random.integers(500, 4000, (12, height // 4, width // 4))
        values = np.kron(values, np.ones((4, 4))).astype(np.uint16)
        bright = values[7] > 2000
        teacher = np.stack([np.where(bright, 225, 25), np.where(bright, 25, 225)]).astype(np.uint8)
        cover = np.where(bright, 10, 20).astype(np.uint8)
        elevation = (values[7] - 2000.0).astype(np.float32)
        values[:, :2], teacher[:, :2], cover[:2], elevation[:2] = 0, 0, 0, -9999
        make_raster(f"t{number}.tif", values, bands=S2, origin=(6e5, 5.4e6 + 1e5 * number))
        make_raster(f"t{number}.teacher.tif", teacher)
        if number:  # of the first tile neither is known
            make_raster(f"t{number}.dem.tif", elevation)
            make_raster(f"t{number}.cover.tif", cover)
        split = "val" if number == 1 else "train"
        entries.append({"file": f"t{number}.tif", "split": split, "level": "L1C"})
    (tmp_path / "index.json").write_text(json.dumps(entries))
    return tmp_path


def spec(folder, **fields) -> PretrainSpec:
    usual = {"data": str(folder), "bands": BANDS, "crop": 32, "split": ""}
    return PretrainSpec(
        **{**usual, **fields}, outputs=PretrainOutputs(model=str(folder / "encoder"))
    )


def draw(data, count=40, seed=0):
    return data.draw(count, np.random.default_rng(seed))


def declare(folder, **changes) -> None:
    rows = {name: {**row, **changes.get(name, {})} for name, row in DECLARED.items()}
    (folder / "modalities.json").write_text(json.dumps(rows))


def test_images_are_standardised_and_the_same_draw_is_the_same(folder) -> None:
    data = open_dataset(spec(folder), None)
    batch = draw(data, 200)
    image = batch["sentinel-2"]
    assert image.shape == (200, 3, 32, 32)
    known = image[~image.isnan()]
    assert abs(float(known.mean())) < 0.1 and abs(float(known.std()) - 1) < 0.1
    assert (image.isnan().all(dim=1) == image.isnan().any(dim=1)).all()
    again = draw(data, 200)
    assert all(torch.equal(again[name].nan_to_num(9), batch[name].nan_to_num(9)) for name in batch)
    assert not torch.equal(draw(data, 200, seed=1)["sentinel-2"].nan_to_num(), image.nan_to_num())


def test_all_modalities_show_the_same_place(folder) -> None:
    declare(folder)
    data = open_dataset(spec(folder), None)
    assert [(one.name, one.kind, one.level, one.channels) for one in data.modalities] == [
        ("sentinel-2", "continuous", "pixel", 3),
        ("elevation", "continuous", "pixel", 1),
        ("cover", "categorical", "pixel", 2),
        ("latitude", "continuous", "image", 2),
        ("longitude", "continuous", "image", 2),
    ]
    batch = draw(data)
    norm = data.normalisation
    reflectance = batch["sentinel-2"][:, 2] * norm.std[2] + norm.mean[2]
    cover, elevation = batch["cover"], batch["elevation"][:, 0]
    there = cover != UNKNOWN
    assert torch.equal(there, ~elevation.isnan())
    assert torch.equal(cover[there] == 0, reflectance[there] > 0.2)
    # Elevation is a straight line of reflectance, whatever both are standardised by.
    pair = torch.stack([reflectance[there], elevation[there]])
    assert torch.corrcoef(pair)[0, 1] > 0.99999
    # The first tile has an image, but neither of the two.
    lacking = ~there.flatten(1).any(dim=1)
    assert lacking.any() and not lacking.all()
    assert (~batch["sentinel-2"][lacking].isnan()).any()


def test_tiles_smaller_than_a_crop_are_left_out_with_a_word(folder) -> None:
    data = open_dataset(spec(folder, crop=40), None)
    assert len(data) == 2
    (warning,) = data.warnings
    assert warning.message == "1 of 3 tiles are smaller than crops of 40 pixels and left out."
    assert "32 pixels" in warning.advice
    with pytest.raises(InputError, match=r"3 of 3 tiles are smaller than crops of 72"):
        open_dataset(spec(folder, crop=72), None)
    assert not open_dataset(spec(folder), None).warnings


def test_crops_hold_data(folder, make_raster) -> None:
    image = values(1)
    image[:, :, 36:] = 0
    write(make_raster, folder, image, 1)
    data = open_dataset(spec(folder, split="val"), None)
    known = 1 - draw(data, 100)["sentinel-2"].isnan().float().mean(dim=(1, 2, 3))
    assert (known >= 0.5).float().mean() > 0.95  # 0.4 of them without another try


def test_a_teacher_is_learned_from_only_if_it_is_listed(folder) -> None:
    data = open_dataset(spec(folder), None)
    assert [one.name for one in data.modalities] == ["sentinel-2", "latitude", "longitude"]
    with pytest.raises(InputError, match="does not hold land-cover"):
        open_dataset(spec(folder, modalities=["land-cover"]), None)
    teacher = {"land-cover": {"suffix": ".teacher.tif", "kind": "probabilities"}}
    (folder / "modalities.json").write_text(json.dumps(teacher))
    data = open_dataset(spec(folder, modalities=["land-cover"]), None)
    assert [one.name for one in data.modalities] == ["sentinel-2", "land-cover"]
    cover = draw(data)["land-cover"]
    assert set(cover.unique().tolist()) == {UNKNOWN, 0, 1}


def test_the_image_alone(folder) -> None:
    assert list(draw(open_dataset(spec(folder, modalities=["sentinel-2"]), None))) == ["sentinel-2"]


def test_bands_and_statistics_of_a_model(folder, tiny_model) -> None:
    data = open_dataset(spec(folder, bands=[]), tiny_model)
    assert data.bands == tiny_model.bands
    assert data.normalisation == tiny_model.normalisation
    assert draw(data)["sentinel-2"].shape[1] == 10
    with pytest.raises(InputError, match="10 bands, found 3"):
        open_dataset(spec(folder, like="tiny"), tiny_model)
    inside = tiny_model.normalisation.model_copy(update={"inside": True})
    with pytest.raises(ModelError, match="normalises its input by itself"):
        open_dataset(
            spec(folder, bands=[]), tiny_model.model_copy(update={"normalisation": inside})
        )


def test_a_part_of_the_tiles(folder) -> None:
    assert [len(open_dataset(spec(folder, split=part), None)) for part in ("", "train", "val")] == [
        3, 2, 1,
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"None of the 3 tiles .* part 'test'"):
        open_dataset(spec(folder, split="test"), None)
    assert open_dataset(spec(folder, split=None), None).split == "train"
    assert open_dataset(spec(folder), None).split == "all"


def test_tiles_are_all_in_a_part_or_none_is(folder) -> None:
    rows = json.loads((folder / "index.json").read_text())
    del rows[2]["split"]
    (folder / "index.json").write_text(json.dumps(rows))
    for part in ("train", "val", "", None):
        with pytest.raises(InputError, match=r"1 of the 3 tiles .* no split, .* train, val"):
            open_dataset(spec(folder, split=part), None)
    for row in rows:
        row["split"], row["level"] = None, None
    (folder / "index.json").write_text(json.dumps(rows))
    data = open_dataset(spec(folder, split=None), None)
    assert (len(data), data.split, data.levels) == (3, "all", ())
    with pytest.raises(InputError, match=r"'val'.* not divided into parts"):
        open_dataset(spec(folder, split="val"), None)


def test_levels_are_not_mixed_unless_a_model_was_taught_so(folder, tiny_model) -> None:
    rows = json.loads((folder / "index.json").read_text())
    rows[1]["level"] = "L2A"
    (folder / "index.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match="of the levels L1C, L2A, whose numbers differ"):
        open_dataset(spec(folder), None)
    assert open_dataset(spec(folder, split="train"), None).levels == ("L1C",)
    assert open_dataset(spec(folder, bands=[]), tiny_model).levels == ("L1C", "L2A")


def test_lists_are_among_the_files_that_changes_are_noticed_by(folder) -> None:
    declare(folder)
    names = {path.name for path in open_dataset(spec(folder), None).files}
    assert names >= {"index.json", "modalities.json", "t0.tif", "t1.dem.tif", "t2.cover.tif"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "cubes"}, r"no kind of data set 'cubes'.*tiles"),
        ({"bands": ["B02", "B10"]}, r"t0\.tif has no band B10; it has B01"),
        ({"modalities": ["height"]}, r"does not hold height.*sentinel-2, latitude"),
        ({"data": "/nowhere"}, r"/nowhere holds no index\.json"),
    ],
)
def test_what_is_not_there_is_refused(folder, fields, message) -> None:
    with pytest.raises(InputError, match=message):
        open_dataset(spec(folder, **fields), None)


def test_rasters_that_do_not_fit_are_refused(folder, make_raster) -> None:
    declare(folder, cover={"codes": [10]})
    with pytest.raises(InputError, match=r"t1\.cover\.tif: Expected the codes 10, found 20"):
        open_dataset(spec(folder), None)
    declare(folder, cover={"nodata": 300})
    with pytest.raises(InputError, match=r"t1\.cover\.tif: 300 .* type uint8 cannot be that"):
        open_dataset(spec(folder), None)
    declare(folder, cover={"kind": "labels"})
    with pytest.raises(InputError, match=r"modalities\.json cannot be read: cover"):
        open_dataset(spec(folder), None)
    declare(folder)
    make_raster("t2.dem.tif", np.zeros((10, 12), np.float32))
    with pytest.raises(InputError, match=r"t2\.dem\.tif has 12 x 10 pixels, its image 36 x 32"):
        open_dataset(spec(folder), None)


def write(make_raster, folder, image, number=0, **profile) -> None:
    """Replace a tile's image."""
    place = (6e5, 5.4e6 + 1e5 * number)
    make_raster(f"t{number}.tif", image, bands=S2, origin=place, **profile)


def reflectance(data, batch):
    norm = data.normalisation
    return batch["sentinel-2"] * torch.tensor(norm.std).view(3, 1, 1) + torch.tensor(
        norm.mean
    ).view(3, 1, 1)


def values(number=0) -> np.ndarray:
    random = np.random.default_rng(number)
    return random.integers(500, 4000, (12, *SIDES[number])).astype(np.uint16)


def test_what_a_file_says_of_itself_is_heeded(folder, make_raster) -> None:
    declare(folder, elevation={"nodata": None})
    for number, side in enumerate(SIDES):
        image = values(number)
        image[:, :, :5] = 65535
        write(make_raster, folder, image, number, nodata=65535, scale=0.0002, offset=-0.1)
        heights = np.linspace(400, 600, math.prod(side), dtype=np.float32).reshape(side)
        heights[:, :5] = -9999
        make_raster(f"t{number}.dem.tif", heights, nodata=-9999)
    data = open_dataset(spec(folder), None)
    batch = draw(data)
    assert 0 < batch["elevation"].isnan().float().mean() < 0.5
    assert batch["elevation"].nan_to_num().abs().max() < 4
    assert batch["sentinel-2"].isnan().any()
    found = reflectance(data, batch)
    found = found[~found.isnan()]
    assert found.min() > 500 * 0.0002 - 0.101 and found.max() < 4000 * 0.0002 - 0.099


def test_reflectance_in_floating_point_numbers(folder, make_raster) -> None:
    for number in range(3):
        image = (values(number) / 10000).astype(np.float32)
        image[:, 0, 0], image[7, 1, 1] = np.nan, np.inf
        write(make_raster, folder, image, number)
    data = open_dataset(spec(folder), None)
    assert 0.15 < data.normalisation.mean[0] < 0.3
    assert draw(data)["sentinel-2"].isinf().sum() == 0


def test_each_band_has_its_own_gaps(folder, make_raster) -> None:
    for number in range(3):
        image = values(number)
        image[7, :, ::2] = 0
        write(make_raster, folder, image, number)
    missing = draw(open_dataset(spec(folder), None))["sentinel-2"].isnan().float()
    assert missing[:, 2].mean() > missing[:, 0].mean() + 0.3


def test_pixels_of_one_size(folder, make_raster) -> None:
    for number in range(3):
        write(make_raster, folder, values(number), number, pixel=20.0)
    assert open_dataset(spec(folder), None).resolution_m == pytest.approx(20, rel=0.01)
    write(make_raster, folder, values(1), 1, pixel=10.0)
    with pytest.raises(
        InputError, match=r"are 10 to 20 m large, about 20 m \(2 tiles\), 10 m \(1 tile\)"
    ):
        open_dataset(spec(folder), None)


def test_an_offset_that_is_left_in_the_numbers_is_told_once(folder, make_raster) -> None:
    for number in range(3):
        write(make_raster, folder, values(number) + 1000, number)
    (warning,) = open_dataset(spec(folder), None).warnings
    assert warning.message.startswith("3 tiles of 3: Even the darkest pixels hold 15")


def test_an_infinite_number_is_no_data(folder, make_raster) -> None:
    declare(folder)
    heights = np.random.default_rng(0).normal(500, 20, SIDES[1]).astype(np.float32)
    heights[3, 3], heights[4, 4] = np.inf, -np.inf
    make_raster("t1.dem.tif", heights)
    elevation = draw(open_dataset(spec(folder), None))["elevation"]
    assert not elevation.isinf().any()
    known = elevation[~elevation.isnan()]
    assert known.numel() and known.abs().max() < 10 and known.std() > 0.5


def test_what_never_changes_cannot_be_learned(folder, make_raster) -> None:
    declare(folder)
    for number in (1, 2):
        make_raster(f"t{number}.dem.tif", np.full(SIDES[number], 500.3, np.float32))
    with pytest.raises(InputError, match=r"one value only of elevation \(500\.3\)"):
        open_dataset(spec(folder), None)


def test_damaged_pixels_are_named(folder) -> None:
    declare(folder)
    path = folder / "t2.dem.tif"
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(RasterReadError, match=r"t2\.dem\.tif is damaged"):
        open_dataset(spec(folder), None)


def test_bands_without_names_and_with_others_are_refused(folder, make_raster) -> None:
    make_raster("t0.tif", values())
    with pytest.raises(InputError, match=r"t0\.tif .* Sentinel-2.* no names\. Describe"):
        open_dataset(spec(folder, bands=[]), None)
    with pytest.raises(InputError, match=r"has no band B02, B04, B08; it has none with a name"):
        open_dataset(spec(folder), None)


@pytest.mark.parametrize("name", ["sentinel-2", "latitude"])
def test_names_that_mean_something_else_are_refused(folder, name) -> None:
    (folder / "modalities.json").write_text(json.dumps({name: DECLARED["elevation"]}))
    with pytest.raises(InputError, match=f"gives the name {name}"):
        open_dataset(spec(folder), None)


def test_codes_belong_to_classes(folder, make_raster) -> None:
    declare(folder, cover={"codes": []})
    with pytest.raises(InputError, match=r"cover: .*codes belong to the kind categorical"):
        open_dataset(spec(folder), None)
    declare(folder)
    make_raster("t1.cover.tif", np.full((2, *SIDES[1]), 10, np.uint8))
    with pytest.raises(InputError, match=r"t1\.cover\.tif has 2 bands"):
        open_dataset(spec(folder), None)


def test_views_are_of_the_dates_of_a_place(folder, make_raster) -> None:
    """Three dates of the first place, told by the brightness of each, and one of the others."""
    entries = json.loads((folder / "index.json").read_text())
    ground = np.random.default_rng(0).integers(1000, 2000, (1, 64, 64))
    for date in range(3):
        image = np.repeat(ground + 1000 * date, 12, axis=0).astype(np.uint16)
        make_raster(f"d{date}.tif", image, bands=S2)
        entries.append({"file": f"d{date}.tif", "split": "train", "place": "forest"})
    (folder / "index.json").write_text(json.dumps(entries))
    data = open_dataset(spec(folder), None)
    views = data.draw_views(60, np.random.default_rng(0), 4)
    assert [view.shape for view in views] == [(60, 3, 32, 32)] * 4
    several = torch.tensor([not torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in
                            zip(views[0], views[1], strict=True)])  # fmt: skip
    assert several.any() and not several.all()
    # Elsewhere there is one date only, and all views are that image.
    for view in views[1:]:
        assert torch.equal(view[~several].nan_to_num(9), views[0][~several].nan_to_num(9))
    # Here no date comes twice before all have come, and the crop is the same.
    measured = [view[several] * data.normalisation.std[0] + data.normalisation.mean[0]
                for view in views]  # fmt: skip
    dates = torch.stack([((view[:, 0, 0, 0] * 10000) // 1000 - 1) for view in measured], dim=1)
    assert all(sorted(row[:3].tolist()) == [0, 1, 2] for row in dates)
    assert len({tuple(row.tolist()) for row in dates}) > 3
    first, second = (view[:, 0] - view[:, 0].mean(dim=(1, 2), keepdim=True) for view in views[:2])
    torch.testing.assert_close(first[several], second[several], atol=1e-3, rtol=0)
    again = data.draw_views(60, np.random.default_rng(0), 4)
    assert all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(again, views, strict=True)
    )


def test_dates_of_a_place_have_the_same_pixels(folder) -> None:
    entries = json.loads((folder / "index.json").read_text())
    for entry in entries[:2]:
        entry["place"] = "forest"
    (folder / "index.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"place 'forest' have 80 x 48, 64 x 64 pixels"):
        open_dataset(spec(folder), None)


def test_dates_of_a_place_lie_on_the_same_pixels(folder, make_raster) -> None:
    entries = [{"file": f"d{date}.tif", "place": "forest"} for date in range(2)]
    (folder / "index.json").write_text(json.dumps(entries))
    for date in range(2):
        make_raster(f"d{date}.tif", values(), bands=S2, origin=(6e5 + 10 * date, 5.4e6))
    with pytest.raises(InputError, match=r"d0.tif and d1.tif .* 'forest', but do not lie"):
        open_dataset(spec(folder), None)
    make_raster("d1.tif", values(), bands=S2)
    data = open_dataset(spec(folder), None)
    assert len(data) == 1  # place, that is: one of many dates comes no more often


def test_views_show_data_on_all_dates(folder, make_raster) -> None:
    """A second date that holds data in a third of its columns."""
    later = values()
    later[:, :, 22:] = 0
    make_raster("d0.tif", values(), bands=S2)
    make_raster("d1.tif", later, bands=S2)
    entries = [{"file": f"d{date}.tif", "place": "forest"} for date in range(2)]
    (folder / "index.json").write_text(json.dumps(entries))
    data = open_dataset(spec(folder), None)
    views = data.draw_views(100, np.random.default_rng(0), 2)
    known = torch.stack([1 - view.isnan().float().mean(dim=(1, 2, 3)) for view in views])
    assert (known.min(dim=0).values >= 0.5).float().mean() > 0.7
    assert known.min() > 0  # the fullest of what was tried; a tenth would be empty as it comes


def test_tiles_without_a_place_on_the_map(folder, make_raster) -> None:
    make_raster("t0.tif", values(), bands=S2, crs=None)
    data = open_dataset(spec(folder), None)
    (warning,) = data.warnings
    assert warning.message.startswith("1 tile of 3 have no place on the map")
    batch = draw(data)
    lost = batch["latitude"].isnan()
    assert (lost.any(dim=1) == lost.all(dim=1)).all() and 0 < lost.float().mean() < 1
    assert batch["latitude"][~lost].abs().max() < 10
    (folder / "index.json").write_text('[{"file": "t0.tif"}]')
    alone = open_dataset(spec(folder), None)
    assert alone.resolution_m == 10 and [one.name for one in alone.modalities] == ["sentinel-2"]


def test_held_back_tiles_of_the_same_ground_are_said(folder, make_raster) -> None:
    request = spec(folder, split=None)
    data = open_dataset(request, None)
    assert open_held(request, None, data) and not data.warnings
    make_raster("t1.tif", values(1), bands=S2, origin=(6e5 + 300, 5.4e6))  # half of it on t0
    data = open_dataset(request, None)
    assert open_held(request, None, data)
    (warning,) = data.warnings
    assert warning.message.startswith("1 tile of 1 that are held back show ground that is learned")


def test_large_images_are_measured_in_parts_and_read_crop_by_crop(folder, make_raster) -> None:
    image = np.full((12, 1200, 600), 3000, np.uint16)
    image[:, :600] = 1000
    make_raster("large.tif", image, bands=S2)
    (folder / "index.json").write_text('[{"file": "large.tif"}]')
    data = open_dataset(spec(folder), None)
    assert data.normalisation.mean[0] == pytest.approx(0.2, abs=0.02)
    tracemalloc.start()
    draw(data, 4)
    assert tracemalloc.get_traced_memory()[1] < image.nbytes / 8
    tracemalloc.stop()


def test_held_back_tiles_are_measured_by_what_is_learned_from(folder) -> None:
    declare(folder)
    request = spec(folder, split=None)
    data = open_dataset(request, None)
    held = open_held(request, None, data)
    assert (len(data), len(held)) == (2, 1)
    assert held.normalisation == data.normalisation and held.modalities == data.modalities
    alone = open_dataset(spec(folder, split="val"), None)
    assert alone.normalisation != data.normalisation
    ours, theirs = draw(held), draw(alone)
    bands = zip(data.normalisation.std, data.normalisation.mean, strict=True)
    for band, (std, mean) in enumerate(bands):
        norm = alone.normalisation
        same = (theirs["sentinel-2"][:, band] * norm.std[band] + norm.mean[band] - mean) / std
        torch.testing.assert_close(
            ours["sentinel-2"][:, band], same, equal_nan=True, atol=1e-4, rtol=1e-4
        )
    assert not torch.equal(ours["elevation"].nan_to_num(), theirs["elevation"].nan_to_num())
    assert ours.keys() == draw(data).keys()
    assert open_held(spec(folder), None, open_dataset(spec(folder), None)) is None


def test_held_back_tiles_that_are_too_small_are_said(folder) -> None:
    entries = json.loads((folder / "index.json").read_text())
    for number, entry in enumerate(entries):
        entry["split"] = "val" if number == 2 else "train"
    (folder / "index.json").write_text(json.dumps(entries))
    request = spec(folder, split=None, crop=48)
    data = open_dataset(request, None)
    assert open_held(request, None, data) is None
    assert "cannot be compared on: 1 of 1 tiles are smaller" in data.warnings[-1].message
