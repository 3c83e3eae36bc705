"""MMEarth's files, in the layout of MMEarth-data (32fe297, utils/convert_to_h5.py)."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import torch

from mmearth.errors import InputError, RasterReadError
from mmearth.pretraining.modality import UNKNOWN
from mmearth.pretraining.registry import check_dataset, open_dataset, open_held

SIDE, COUNT = 64, 8
DATASETS = {
    "sentinel2": ("uint16", 13), "sentinel2_cloudmask": ("uint16", 1),
    "sentinel2_cloudprod": ("uint16", 1), "sentinel2_scl": ("uint8", 1),
    "sentinel1": ("float32", 8), "aster": ("int16", 2), "dynamic_world": ("uint8", 1),
    "canopy_height_eth": ("int8", 2), "esa_worldcover": ("uint8", 1),
}  # fmt: skip
ROWS = {
    "era5": ("float32", 12), "lat": ("float32", 2), "lon": ("float32", 2),
    "month": ("float32", 2), "biome": ("uint8", 14), "eco_region": ("uint16", 846),
}  # fmt: skip
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B08", "B09", "B11", "B12")
ESA = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)
LEVELS = ("l1c", "l2a")


def write(folder, side=SIDE, typed=True, **replaced):
    """Write a data set; tiles alternate between the levels, and those of L2A are brighter."""
    folder.mkdir(exist_ok=True)
    name = folder / "data_1M_v001_64"
    random = np.random.default_rng(0)
    with h5py.File(f"{name}.h5", "w") as file:
        for key, (dtype, bands) in DATASETS.items():
            shape, chunk = (COUNT, bands, side, side), (1, bands, side, side)
            file.create_dataset(key, shape, dtype, chunks=chunk, compression="gzip")
        for key, (dtype, width) in ROWS.items():
            file.create_dataset(key, (COUNT, width), dtype, chunks=(1, width), compression="gzip")
        fields = [("tile_id", "S100"), ("S2_type", "S10")]
        metadata = file.create_dataset(
            "metadata", (COUNT,), np.dtype(fields if typed else fields[:1])
        )
        for tile in range(COUNT):
            level = LEVELS[tile % 2]
            image = 1000.0 + 1000 * (level == "l2a") + 100 * np.arange(13)[:, None, None]
            image = image + random.integers(0, 200, (13, side, side))
            if level == "l2a":
                image[10] = 0  # has no B10
            image[3, :4] = 0  # a gap of one band
            file["sentinel2"][tile] = image
            file["sentinel1"][tile] = -np.inf
            file["sentinel1"][tile, :2] = random.normal(-12, 3, (2, side, side))
            file["aster"][tile] = image[:2] - 1000
            file["aster"][tile, :, :2] = np.full((2, 2, side), -np.inf)  # as MMEarth-data does
            file["canopy_height_eth"][tile] = np.full((2, side, side), 255)  # likewise
            file["canopy_height_eth"][tile, :, 8:] = 20 + (image[:2, 8:] % 7)
            cover = np.array(ESA)[random.integers(0, 11, (side, side))]
            cover[:3], cover[3:6] = 0, 255
            file["esa_worldcover"][tile] = cover
            file["dynamic_world"][tile] = random.integers(0, 11, (side, side))
            for key in ("lat", "lon", "month"):
                file[key][tile] = random.normal(size=2)
            file["era5"][tile] = np.append(random.normal(280, 9, 11), np.nan)
            file["biome"][tile] = np.eye(14)[tile]
            file["eco_region"][tile] = np.eye(846)[100 + tile] if tile else 65535
            row = (f"id{tile}", level)
            metadata[tile] = row if typed else row[:1]
        for key, values in replaced.items():
            file[key][...] = values
    stats = {
        "sentinel2_l1c": {"mean": [1100.0 + 100 * n for n in range(13)], "std": [60.0] * 13},
        "sentinel2_l2a": {"mean": [2100.0 + 100 * n for n in range(13)], "std": [60.0] * 13},
        "sentinel1": {"mean": [-12.0] * 8, "std": [3.0] * 8},
        "aster": {"mean": [600.0] * 2, "std": [500.0] * 2},
        "canopy_height_eth": {"mean": [23.0] * 2, "std": [2.0] * 2},
        "era5": {"mean": [280.0] * 12, "std": [9.0] * 12},
        **{key: {"mean": [0.0, 0.0], "std": [1.0, 1.0]} for key in ("lat", "lon", "month")},
    }
    stats["sentinel2_l2a"]["std"][10] = 0.0
    parts = {"train": [0, 1, 2, 3, 4, 5], "val": [6], "test": []}
    info = {f"id{tile}": {"S2_type": LEVELS[tile % 2]} for tile in range(COUNT)}
    for part, content in (("band_stats", stats), ("splits", parts), ("tile_info", info)):
        (folder / f"{name.name}_{part}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "data_1M_v001_64")


def test_all_modalities_as_published(folder, request_of, draw) -> None:
    data = open_dataset(request_of("mmearth-h5", folder), None)
    assert (len(data), data.split, data.bands) == (6, "train", BANDS)
    assert {(one.name, one.kind, one.level, one.channels) for one in data.modalities} == {
        ("sentinel-2", "continuous", "pixel", 12),
        ("sentinel1", "continuous", "pixel", 8),
        ("aster", "continuous", "pixel", 2),
        ("canopy_height_eth", "continuous", "pixel", 2),
        ("dynamic_world", "categorical", "pixel", 9),
        ("esa_worldcover", "categorical", "pixel", 11),
        ("era5", "continuous", "image", 12),
        ("lat", "continuous", "image", 2),
        ("lon", "continuous", "image", 2),
        ("month", "continuous", "image", 2),
        ("biome", "categorical", "image", 14),
        ("eco_region", "categorical", "image", 846),
    }
    batch = draw(data, 30)
    assert batch["sentinel-2"].shape == (30, 12, 16, 16)
    assert batch["dynamic_world"].dtype == torch.int64 and batch["biome"].shape == (30,)
    assert set(batch["dynamic_world"].unique().tolist()) == {UNKNOWN, *range(9)}
    assert batch["sentinel1"][:, 2:].isnan().all() and not batch["sentinel1"][:, :2].isnan().any()
    assert batch["era5"][:, 11].isnan().all() and not batch["era5"][:, :11].isnan().any()
    assert {UNKNOWN, 101, 105} <= set(batch["eco_region"].tolist())
    again = draw(data, 30)
    assert all(torch.equal(again[k].nan_to_num(9), batch[k].nan_to_num(9)) for k in batch)


def test_each_tile_is_standardised_by_its_level(
    folder, tmp_path, request_of, draw, tiny_model
) -> None:
    # Merged files tell the level in the JSON file only.
    for place in (folder, write(tmp_path / "merged", typed=False)):
        data = open_dataset(request_of("mmearth-h5", place), None)
        image = draw(data, 30)["sentinel-2"]
        known = image.nanmean(dim=(1, 2, 3))
        assert known.abs().max() < 0.3  # with the numbers of the other level, more than 16
        assert data.levels == ("L2A",)
        assert data.normalisation.mean[0] == pytest.approx(0.21)
        assert data.normalisation.mean[7] == pytest.approx(0.28)  # B8A, before B08
        (warning,) = data.warnings
        assert "of the levels L1C, L2A" in warning.message
    like = open_dataset(request_of("mmearth-h5", folder, like="tiny"), tiny_model)
    assert like.levels == ("L1C", "L2A") and like.bands == tiny_model.bands
    assert like.normalisation == tiny_model.normalisation and not like.warnings


def test_no_data_as_it_is_stored(folder, request_of, draw) -> None:
    data = open_dataset(request_of("mmearth-h5", folder, crop=SIDE), None)
    batch = draw(data)
    missing = batch["sentinel-2"].isnan().float().mean(dim=(0, 2, 3))
    assert missing[3] == pytest.approx(4 / 64) and missing.sum() == missing[3]
    assert batch["aster"].isnan().float().mean() == pytest.approx(2 / 64)
    assert batch["aster"].nan_to_num().abs().max() < 4
    # 255 cannot be stored with 8 bits and a sign: 127 is.
    height = batch["canopy_height_eth"]
    assert height.isnan().float().mean() == pytest.approx(8 / 64)
    assert height.nan_to_num().abs().max() < 3


def test_tree_cover_is_a_class(folder, request_of, draw) -> None:
    data = open_dataset(request_of("mmearth-h5", folder, crop=SIDE), None)
    cover = draw(data, 10)["esa_worldcover"]
    shares = torch.bincount(cover.flatten() + 1, minlength=12) / cover.numel()
    assert shares[0] == pytest.approx(6 / 64)  # both of its numbers for no data
    assert (shares[1:] > 0.06).all()


def test_modalities_show_the_same_pixels(folder, request_of, draw) -> None:
    data = open_dataset(request_of("mmearth-h5", folder, bands=["B02", "B01"]), None)
    batch = draw(data, 30)
    image, height = batch["sentinel-2"] * 60, batch["aster"] * 500 + 600
    known = ~height.isnan().any(dim=1)
    # aster was made from B01 and B02 in this order, of both levels.
    for band, channel in ((1, 0), (0, 1)):
        off = (image[:, band] - height[:, channel])[known]
        assert len(off.round().unique()) == 2


def test_parts(folder, request_of) -> None:
    sizes = {part: len(open_dataset(request_of("mmearth-h5", folder, split=part), None))
             for part in (None, "", "train", "val")}  # fmt: skip
    assert sizes == {None: 6, "": 8, "train": 6, "val": 1}
    with pytest.raises(InputError, match=r"belongs to the part 'test'. Choose 'train', 'val'"):
        check_dataset(request_of("mmearth-h5", folder, split="test"), None)
    request = request_of("mmearth-h5", folder)
    learned = open_dataset(request, None)
    held = open_held(request, None, learned)
    assert (held.split, len(held)) == ("val", 1)
    assert held.modalities == learned.modalities and held.normalisation == learned.normalisation
    assert open_held(request, None, held) is None
    splits = folder / "data_1M_v001_64_splits.json"
    splits.write_text('{"train": [1], "val": []}')
    assert open_held(request, None, open_dataset(request, None)) is None
    splits.write_text('{"train": [8]}')
    with pytest.raises(InputError, match=r"has the tile 8, the file has 8"):
        check_dataset(request_of("mmearth-h5", folder), None)


def test_files_of_128_pixels(tmp_path, request_of, draw) -> None:
    data = open_dataset(request_of("mmearth-h5", write(tmp_path / "a", 128), crop=112), None)
    assert draw(data, 2)["esa_worldcover"].shape == (2, 112, 112)


def _seen(data) -> list[np.ndarray]:
    batch = data.draw(6, np.random.default_rng(3))
    return [np.nan_to_num(value.numpy(), nan=9) for value in batch.values()]


def test_several_threads_and_processes_draw_the_same(folder, request_of) -> None:
    data = open_dataset(request_of("mmearth-h5", folder), None)
    expected = _seen(data)
    copy = pickle.loads(pickle.dumps(data))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(_seen, [data, copy, data]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        workers = multiprocessing.get_context("fork").Pool(1)
    with workers:
        found += workers.map(_seen, [data])
    for batch in found:
        assert all(np.array_equal(a, b) for a, b in zip(batch, expected, strict=True))


def test_memory_does_not_grow_with_the_archive(tmp_path, request_of, draw) -> None:
    count, name = 20_000, "data_1M_v001"
    with h5py.File(tmp_path / f"{name}.h5", "w") as file:
        shape = (13, 128, 128)  # 8 GB, of which those pixels are stored that are not 0
        image = file.create_dataset("sentinel2", (count, *shape), "uint16", chunks=(1, *shape))
        image[count - 1] = 1500
        fields = [("tile_id", "S100"), ("S2_type", "S10")]
        metadata = np.zeros(count, fields)
        metadata["S2_type"] = b"l1c"
        file["metadata"] = metadata
    rows = {"sentinel2_l1c": {"mean": [1000.0] * 13, "std": [500.0] * 13}}
    (tmp_path / f"{name}_band_stats.json").write_text(json.dumps(rows))
    (tmp_path / f"{name}_splits.json").write_text(json.dumps({"train": list(range(count))}))
    request = request_of("mmearth-h5", tmp_path, crop=112)
    tracemalloc.start()
    batch = draw(open_dataset(request, None), 4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert batch["sentinel-2"].shape == (4, 13, 112, 112)
    assert peak < 2**25


def test_views_of_one_date_are_the_same_image(folder, request_of) -> None:
    data = open_dataset(request_of("mmearth-h5", folder), None)
    first, second = data.draw_views(4, np.random.default_rng(0), 2)
    assert first.shape == (4, 12, 16, 16)
    assert torch.equal(first.nan_to_num(9), second.nan_to_num(9))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop": 80}, "80 pixels do not fit .* 64 pixels"),
        ({"bands": ["B10"]}, "no Sentinel-2 band B10; it has B01"),  # L2A has none
        ({"modalities": ["height"]}, "does not hold height.* It holds sentinel-2, aster"),
        ({"sensor": "enmap"}, "no images of EnMAP"),
    ],
)
def test_what_is_not_there_is_refused(folder, request_of, fields, message) -> None:
    with pytest.raises(InputError, match=message):
        check_dataset(request_of("mmearth-h5", folder, **fields), None)


def test_missing_and_damaged_files(folder, request_of, tmp_path, draw) -> None:
    with pytest.raises(InputError, match=r"Expected one h5 file in .*, found none"):
        check_dataset(request_of("mmearth-h5", tmp_path), None)
    path = folder / "data_1M_v001_64.h5"
    with h5py.File(path) as file:
        place = file["sentinel2"].id.get_chunk_info(0).byte_offset
    data = open_dataset(request_of("mmearth-h5", path, split="", crop=SIDE), None)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes(400))
    with pytest.raises(RasterReadError, match=r"\.h5 is damaged: sentinel2 cannot be read"):
        draw(data, 30)
    del data
    path.write_bytes(b"no hdf5")
    with pytest.raises(RasterReadError, match="cannot be opened as an HDF5 file"):
        check_dataset(request_of("mmearth-h5", folder), None)
    (folder / "data_1M_v001_64_splits.json").unlink()
    with pytest.raises(InputError, match=r"no .*_splits\.json, which belongs"):
        check_dataset(request_of("mmearth-h5", folder), None)
