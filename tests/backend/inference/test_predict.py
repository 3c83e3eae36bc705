"""Tiled inference gives the map that the network gives, without seams, rims or lost pixels."""

from __future__ import annotations

import threading
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rasterio.errors import RasterioIOError

from mmearth.api import RasterInput
from mmearth.errors import JobCancelled, OutOfMemoryError, RasterReadError
from mmearth.inference import predict, reader
from mmearth.inference.predict import class_probabilities, compute_rows
from mmearth.inference.tiles import Layout
from mmearth.models.network import Network, Workload
from mmearth.raster.radiometry import ScaledBand
from mmearth.raster.source import list_bands
from mmearth.raster.stack import RasterStack

CLASSES = 3
WORKLOAD = Workload(batch_size=3, lanes=2)


class PixelNetwork:
    """Maps each pixel by itself: class 0, 1 or 2 by the brightness of its only band."""

    card = SimpleNamespace(class_count=CLASSES, bands=("B04",))
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.tiles = 0

    def probabilities(self, images, masks):
        self.tiles += len(images)
        scores = self.scores(torch.from_numpy(images))
        return torch.softmax(scores, dim=1)

    def scores(self, images):
        levels = torch.tensor([0.1, 0.3, 0.5])[None, :, None, None]
        return -40 * (images - levels).abs()


class BorderNetwork(PixelNetwork):
    """Like ``PixelNetwork``, but wrong in a rim of the tile: every network has such a rim."""

    def __init__(self, rim: int) -> None:
        super().__init__()
        self.rim = rim

    def scores(self, images):
        scores = super().scores(images)
        wrong = scores.roll(1, dims=1)
        inside = torch.zeros(images.shape[-2:], dtype=torch.bool)
        inside[self.rim : -self.rim, self.rim : -self.rim] = True
        return torch.where(inside, scores, wrong)


def image_of(height, width, seed=0):
    random = np.random.default_rng(seed)
    blocks = random.choice([1000, 3000, 5000], (height // 5 + 1, width // 5 + 1))
    return np.kron(blocks, np.ones((5, 5)))[:height, :width].astype(np.uint16)


def stack_of(path):
    (band,) = list_bands([RasterInput(path=str(path), label="")])
    return RasterStack([ScaledBand(band, 0.0001, 0.0, 0, None)], band.grid)


def run(path, network, *, tile=64, overlap=0.25, workload=WORKLOAD, **options):
    stack = stack_of(path)
    layout = Layout.of(stack.grid.height, stack.grid.width, tile, overlap=overlap)
    parts = list(compute_rows(stack, class_probabilities(network), layout, workload, **options))
    starts = [part.start for part in parts]
    assert starts == [
        (parts[0].start if n == 0 else starts[n - 1] + parts[n - 1].valid.shape[0])
        for n in range(len(parts))
    ]
    probabilities = torch.cat([part.values for part in parts], dim=1).numpy()
    return probabilities, np.concatenate([part.valid for part in parts])


@pytest.mark.parametrize("size", [(150, 130), (64, 64), (20, 15), (1, 1), (7, 300), (129, 64)])
def test_equals_the_network_on_the_whole_scene(make_raster, size) -> None:
    values = image_of(*size)
    probabilities, valid = run(make_raster("s.tif", values, nodata=0), PixelNetwork())
    whole = torch.from_numpy(values.astype(np.float32) / 10_000)[None, None]
    expected = PixelNetwork().probabilities(whole.numpy(), None)[0].numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert valid.all()


def test_probabilities_add_up(make_raster) -> None:
    probabilities, _ = run(make_raster("s.tif", image_of(200, 170), nodata=0), BorderNetwork(7))
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("tile", [64, 128])
def test_wrong_rims_of_tiles_do_not_reach_the_map(make_raster, tile) -> None:
    """A rim of 0.47 of the overlap is wrong in every tile; no pixel of the map is."""
    values = image_of(300, 260)
    rim = int(0.47 * tile / 4)
    probabilities, _ = run(make_raster("s.tif", values, nodata=0), BorderNetwork(rim), tile=tile)
    expected = (values - 1000) // 2000
    np.testing.assert_array_equal(probabilities.argmax(axis=0), expected)


def test_the_map_does_not_depend_on_the_tile_size(make_raster, tiny_model, settings) -> None:
    """256 against 512 pixels, with a real network whose convolutions see beyond a pixel."""
    from scenes import S2, scene_values

    path = make_raster("s.tif", scene_values(700, 640), bands=S2, nodata=0)
    sources = {band.hints[0]: band for band in list_bands([RasterInput(path=str(path), label="")])}
    bands = [ScaledBand(sources[name], 0.0001, 0.0, 0, None) for name in tiny_model.bands]
    network = Network(tiny_model, settings)
    maps = []
    for tile in (256, 512):
        stack = RasterStack(bands, bands[0].source.grid)
        layout = Layout.of(700, 640, tile, stride=tiny_model.stride)
        workload = network.workload(tile)
        parts = list(compute_rows(stack, class_probabilities(network), layout, workload))
        maps.append(torch.cat([part.values for part in parts], dim=1).argmax(dim=0))
        valid = np.concatenate([part.valid for part in parts])
    assert len(np.unique(maps[0])) > 1
    agreement = (maps[0] == maps[1]).numpy()[valid].mean()
    assert agreement >= 0.99


def test_empty_tiles_are_not_computed(make_raster) -> None:
    values = image_of(400, 400)
    values[:, 100:] = 0
    network = PixelNetwork()
    seen = []
    _, valid = run(make_raster("s.tif", values, nodata=0), network, progress=seen.append)
    total = Layout.of(400, 400, 64).count
    assert network.tiles < total / 2
    assert seen[-1] == total
    np.testing.assert_array_equal(valid, values > 0)


@pytest.mark.parametrize("done", [1, 47, 48, 100, 199])
def test_goes_on_where_it_stopped(make_raster, done) -> None:
    path = make_raster("s.tif", image_of(200, 170), nodata=0)
    whole, _ = run(path, BorderNetwork(7))
    rest, _ = run(path, BorderNetwork(7), first_row=done)
    np.testing.assert_allclose(rest, whole[:, done:], atol=1e-6)


def test_cancel_stops_after_the_batches_under_way(make_raster) -> None:
    network = PixelNetwork()
    path = make_raster("s.tif", image_of(400, 400), nodata=0)
    with pytest.raises(JobCancelled):
        run(path, network, workload=Workload(1), cancelled=lambda: network.tiles >= 5)
    assert 5 <= network.tiles <= 7 < Layout.of(400, 400, 64).count


class MeetingNetwork(PixelNetwork):
    """Computes nothing before all lanes are at work."""

    def __init__(self, lanes) -> None:
        super().__init__()
        self.meeting = threading.Barrier(lanes, timeout=60)
        self.threads = {}

    def probabilities(self, images, masks):
        if threading.get_ident() not in self.threads:
            self.threads[threading.get_ident()] = torch.get_num_threads()
            self.meeting.wait()
        return super().probabilities(images, masks)


def test_lanes_work_side_by_side(make_raster) -> None:
    path = make_raster("s.tif", image_of(128, 400), nodata=0)
    network = MeetingNetwork(lanes=4)
    run(path, network, workload=Workload(1, lanes=4, threads=1))
    assert list(network.threads.values()) == [1, 1, 1, 1]


class FailingNetwork(PixelNetwork):
    def probabilities(self, images, masks):
        if self.tiles >= 9:
            raise OutOfMemoryError("no memory")
        return super().probabilities(images, masks)


def threads_end() -> bool:
    """Give threads that are about to end a moment."""
    for thread in threading.enumerate():
        if thread.name.startswith(("reader", "network")):
            thread.join(10)
    return not any(t.name.startswith(("reader", "network")) for t in threading.enumerate())


def test_an_error_of_the_network_is_told_and_threads_end(make_raster) -> None:
    path = make_raster("s.tif", image_of(400, 400), nodata=0)
    with pytest.raises(OutOfMemoryError, match="no memory"):
        run(path, FailingNetwork())
    assert threads_end()


def test_threads_end_when_nobody_wants_more(make_raster) -> None:
    stack = stack_of(make_raster("s.tif", image_of(400, 400), nodata=0))
    computation = class_probabilities(PixelNetwork())
    parts = compute_rows(stack, computation, Layout.of(400, 400, 64), WORKLOAD)
    next(parts)
    parts.close()
    assert threads_end()


def test_rows_before_an_unreadable_place_are_kept(make_raster) -> None:
    """So that a job whose disk fails goes on from there."""
    path = make_raster("s.tif", image_of(600, 300), blockysize=16, compress="deflate")
    stack = stack_of(path)
    read = stack.read_rows

    def fail_later(start, stop):
        if stop > 400:
            raise RasterReadError("rows cannot be read")
        return read(start, stop)

    stack.read_rows = fail_later
    computation, layout = class_probabilities(PixelNetwork()), Layout.of(600, 300, 64)
    done = 0
    with pytest.raises(RasterReadError, match="cannot be read"):
        for part in compute_rows(stack, computation, layout, Workload(1, lanes=8)):
            done = part.start + part.valid.shape[0]
    assert done > 250


@pytest.mark.parametrize("done", [0, 65, 200, 300])
def test_no_data_stays_in_its_place_in_large_tiles(make_raster, done) -> None:
    """Finished rows are handed out a few at a time."""
    values = image_of(450, 300)
    values[100:140, 50:90] = values[330:331, :] = 0
    path = make_raster("s.tif", values, nodata=0)
    stack = stack_of(path)
    computation, layout = class_probabilities(PixelNetwork()), Layout.of(450, 300, 256)
    parts = list(compute_rows(stack, computation, layout, WORKLOAD, first_row=done))
    valid = np.concatenate([part.valid for part in parts])
    np.testing.assert_array_equal(valid, values[done:] > 0)
    starts = [start for start in layout.rows.starts if start + 256 > done]
    columns = len(layout.cols.starts)
    assert sum(part.computed for part in parts) == len(starts) * columns
    assert max(part.valid.shape[0] for part in parts) <= predict.BAND_ROWS


def test_a_file_that_breaks_off_is_told(make_raster) -> None:
    path = make_raster("s.tif", image_of(600, 600), blockysize=16, compress="deflate")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)
    with pytest.raises((RasterReadError, RasterioIOError), match=r"damaged|cannot be opened"):
        run(path, PixelNetwork())


def test_memory_does_not_grow_with_height(make_raster, monkeypatch) -> None:
    """The sums are held for one row of tiles, however many there are."""
    monkeypatch.setattr(reader, "READ_AHEAD_BYTES", 1)
    peaks = []
    for height in (300, 1500):
        path = make_raster(f"{height}.tif", image_of(height, 300), nodata=0)
        network = PixelNetwork()
        stack = stack_of(path)
        layout = Layout.of(height, 300, 64)
        tracemalloc.start()
        for part in compute_rows(stack, class_probabilities(network), layout, WORKLOAD):
            del part
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
