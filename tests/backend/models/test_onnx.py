"""Models as ONNX files: what goes out computes the same, what comes in is as deepness reads it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import rasterio
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file
from scenes import DATA, ROOT
from stac import check_stac

from mmearth.api import RasterInput, SegmentOutputs, SegmentSpec
from mmearth.errors import InputError, MissingExtraError, ModelError, OutputError
from mmearth.inference.tiles import Layout
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import run_job
from mmearth.models.card import NetworkConfig, read_card
from mmearth.models.network import Network
from mmearth.models.onnx.deepness import normalisation, read_metadata, write_metadata
from mmearth.models.onnx.export import export_onnx
from mmearth.models.onnx.importing import import_onnx
from mmearth.models.registry import build_network, installed_models
from mmearth.models.save import save_model
from mmearth.sensors import load_sensor
from mmearth.settings import Settings

EMBEDDED = ROOT / "resources" / "models" / "landcover-s2"
RGB = ("red", "green", "blue")
SIDE = 64


@pytest.fixture
def home(tmp_path) -> Settings:
    (tmp_path / "home").mkdir()
    return Settings(home=tmp_path / "home", device="cpu", threads=1)


def segment(settings: Settings, model: str, scene: Path, target: Path, **more) -> np.ndarray:
    spec = SegmentSpec(
        inputs=[RasterInput(path=str(scene), label="")],
        model=model,
        outputs=SegmentOutputs(classes=str(target)),
        **more,
    )
    run_job(spec, JobContext(settings))
    with rasterio.open(target) as dataset:
        return dataset.read(1)


def deepness_input(stored: np.ndarray, metadata: dict) -> np.ndarray:
    """What deepness feeds a network with. stored: (H, W, C) of any type."""
    mean, std = (
        np.float32(metadata[f"standardization_{name}"]) for name in ("mean", "std")
    )  # fmt: skip
    values = (np.float32(stored[None] * 1.0 / 255.0) - mean) / std
    return np.transpose(values, (0, 3, 1, 2))


def properties(path: Path) -> dict:
    return {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}


def make_file(
    path: Path,
    weights: np.ndarray,
    last: str | None,
    *,
    bias=0.0,
    size: int | str = SIDE,
    batch: int | str = "batch",
    opset: int = 13,
    **metadata,
) -> Path:
    """Write a network of one convolution of 1 x 1 pixels. weights: (K, C)."""
    classes, bands = weights.shape
    values = weights.astype(np.float32).reshape(classes, bands, 1, 1)
    shift = np.broadcast_to(np.float32(bias), (classes,)).copy()
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y" if last is None else "z"])]
    if last:
        options = {"axis": 1} if last == "Softmax" else {}
        nodes.append(helper.make_node(last, ["z"], ["y"], **options))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, bands, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, classes, size, size])],
        [numpy_helper.from_array(values, "w"), numpy_helper.from_array(shift, "b")],
    )
    model = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)]
    )  # fmt: skip
    facts = {"model_type": "Segmentor", "resolution": 40, **metadata}
    helper.set_model_props(model, {name: json.dumps(value) for name, value in facts.items()})
    path.write_bytes(model.SerializeToString())
    return path


BINARY = np.array([[4.0, -3.0, 1.0]])
THREE = np.array([[2.0, -3.0, 1.0], [-1.0, 2.0, 0.5], [1.0, 1.0, -2.0]])


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("exported") / "landcover.onnx"
    export_onnx(read_card(EMBEDDED), target)
    return target


class TestExport:
    def test_deepness_reads_stored_numbers_rightly(self, exported, home) -> None:
        metadata = properties(exported)
        assert metadata["model_type"] == "Segmentor" and metadata["resolution"] == 1000
        assert metadata["tile_size"] == metadata["tiles_size"] == 256
        assert metadata["class_names"]["0"] == "Water"
        assert metadata["seg_thresh"] == 0 and metadata["seg_small_segment"] == 0
        card = read_card(EMBEDDED)
        stored = np.random.default_rng(1).integers(1, 6000, (256, 256, 10)).astype(np.uint16)
        stored[:60] = 0  # what deepness makes of no data, and of what lies beyond the raster
        session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
        assert session.get_inputs()[0].shape == ["batch", 10, 256, 256]
        assert session.get_outputs()[0].shape == ["batch", 9, 256, 256]
        name = session.get_inputs()[0].name
        (found,) = session.run(None, {name: deepness_input(stored, metadata)})
        images = np.transpose(stored, (2, 0, 1))[None].astype(np.float32) * np.float32(1e-4)
        expected = Network(card, home).probabilities(images, (stored != 0).all(axis=2)[None])
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize(("overlap", "percent"), [(0, 25), (63, 25), (100, 40), (128, 50)])
    def test_deepness_overlaps_tiles_as_our_maps_do(self, overlap, percent) -> None:
        card = read_card(EMBEDDED).model_copy(update={"overlap": overlap})
        layout = Layout.of(1000, 1000, card.tile_size, least=overlap)
        assert json.loads(write_metadata(card)["tiles_overlap"]) == percent
        assert percent >= 100 * layout.rows.overlap / card.tile_size

    def test_files_are_read_by_the_onnxruntime_of_deepness(self, exported) -> None:
        model = onnx.load(exported)
        onnx.checker.check_model(model)
        assert model.ir_version <= 8
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]

    def test_an_encoder_is_refused(self, tmp_path, tiny_facts) -> None:
        features = {"decoder": "features", "encoder": "resnet18", "multiply_adds_per_pixel": 1}
        facts = {**tiny_facts, "task": "features", "network": features}
        facts |= {"classes": (), "products": ()}
        network = build_network(NetworkConfig(**features), in_channels=10, classes=0)
        encoder = save_model(tmp_path / "encoder", network.state_dict(), facts)
        with pytest.raises(ModelError, match="maps nothing by itself"):
            export_onnx(encoder, tmp_path / "encoder.onnx")
        assert not list(tmp_path.glob("*.onnx"))

    def test_a_damaged_model_leaves_the_old_file(self, tmp_path, tiny_model) -> None:
        folder = shutil.copytree(tiny_model.folder, tmp_path / "tiny")
        (folder / "model.safetensors").write_bytes(b"broken")
        (tmp_path / "tiny.onnx").write_text("old")
        with pytest.raises(ModelError, match="damaged"):
            export_onnx(read_card(folder), tmp_path / "tiny.onnx")
        assert (tmp_path / "tiny.onnx").read_text() == "old"

    def test_places_that_cannot_be_written_are_said(self, tmp_path, tiny_model) -> None:
        with pytest.raises(OutputError, match=r"ends with \.onnx"):
            export_onnx(tiny_model, tmp_path / "tiny.tif")
        with pytest.raises(OutputError, match="does not exist"):
            export_onnx(tiny_model, tmp_path / "nowhere" / "tiny.onnx")
        (tmp_path / "taken.onnx").mkdir()
        with pytest.raises(OutputError, match="could not be written"):
            export_onnx(tiny_model, tmp_path / "taken.onnx")
        assert [path.name for path in tmp_path.glob("*.onnx")] == ["taken.onnx"]

    @pytest.mark.parametrize(
        ("decoder", "encoder", "options"),
        [
            ("conv", "vit-tiny-p16", {}),
            ("deeplabv3plus", "resnet18", {}),
            ("fcn", "resnet18", {}),
            ("linear", "mmearth-atto-p8", {}),
            ("upconv", "vit-tiny-p16", {}),
        ],
    )
    def test_other_networks(self, tmp_path, tiny_facts, decoder, encoder, options) -> None:
        config = {**dict(tiny_facts["network"]), "decoder": decoder, "encoder": encoder}
        facts = {**tiny_facts, "network": {**config, "options": options}}
        facts |= {"tile_size": 128, "stride": 32, "id": decoder}
        torch.manual_seed(0)
        network = build_network(NetworkConfig(**facts["network"]), in_channels=10, classes=3)
        card = save_model(tmp_path / "models" / decoder, network.state_dict(), facts)
        export_onnx(card, tmp_path / "net.onnx")  # it compares what both compute
        assert (tmp_path / "net.onnx").stat().st_size > 10_000


class TestOwnFiles:
    def test_temperatures_of_classes_are_inside(self, home, tmp_path, tiny_facts, tiny_model):
        own = {**tiny_facts, "temperature": (0.3, 1.0, 3.0)}
        card = save_model(tmp_path / "tiny", load_file(tiny_model.weights), own)
        export_onnx(card, tmp_path / "tiny.onnx")
        imported = import_onnx(tmp_path / "tiny.onnx", tmp_path / "models")
        assert imported.temperature == 1.0
        images = np.random.default_rng(0).uniform(0.01, 0.5, (1, 10, 64, 64)).astype(np.float32)
        masks = np.ones((1, 64, 64), bool)
        found, expected, plain = (
            Network(each, home).probabilities(images, masks)
            for each in (imported, card, tiny_model)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
        assert (found - plain).abs().max() > 0.1

    def test_the_map_is_the_same(self, exported, home, tmp_path) -> None:
        shutil.copytree(EMBEDDED, home.home / "models" / EMBEDDED.name)
        imported = import_onnx(exported, home.home / "models", model_id="again")
        assert imported in installed_models(home.model_folders)
        imported.check_weights()
        scene = DATA / "terramind_l2a.tif"
        before = segment(home, EMBEDDED.name, scene, tmp_path / "before.tif")
        after = segment(home, "again", scene, tmp_path / "after.tif")
        assert len(np.unique(before)) > 2
        assert (before == after).mean() >= 0.999

    def test_the_card_comes_back(self, exported, tmp_path) -> None:
        imported = import_onnx(exported, tmp_path)
        check_stac(json.loads((imported.folder / "model.json").read_text("utf-8")))
        original = read_card(EMBEDDED)
        assert imported.folder == tmp_path / original.id
        changed = {"network", "normalisation", "temperature", "sha256", "weights_name", "folder"}
        assert imported.model_dump(exclude=changed) == original.model_dump(exclude=changed)
        assert imported.normalisation.mean == original.normalisation.mean
        item = json.loads((imported.folder / "model.json").read_text("utf-8"))
        asset = item["assets"]["model"]
        assert asset["href"] == "./model.onnx" and asset["mlm:artifact_type"] == "onnx"
        assert item["properties"]["mlm:framework"] == "ONNX"

    def test_out_and_in_twice(self, exported, tmp_path) -> None:
        first = import_onnx(exported, tmp_path / "first")
        export_onnx(first, tmp_path / "second.onnx")
        second = import_onnx(tmp_path / "second.onnx", tmp_path / "second")
        same = {"sha256", "folder"}
        assert second.model_dump(exclude=same) == first.model_dump(exclude=same)

    def test_a_card_that_cannot_be_written(self, exported, tmp_path) -> None:
        model = onnx.load(exported)
        (entry,) = [entry for entry in model.metadata_props if entry.key == "mmearth"]
        item = json.loads(entry.value)
        item["properties"]["title"] = "half \ud83d"
        entry.value = json.dumps(item)
        (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match="half of a character"):
            import_onnx(tmp_path / "x.onnx", tmp_path / "models")
        assert not list((tmp_path / "models").iterdir())

    def test_no_installed_model_is_replaced(self, exported, tmp_path) -> None:
        kept = shutil.copytree(EMBEDDED, tmp_path / EMBEDDED.name)
        with pytest.raises(ModelError, match="installed already"):
            import_onnx(exported, tmp_path)
        assert (kept / "model.safetensors").is_file() and not (kept / "model.onnx").exists()

    @pytest.mark.parametrize("name", ["../out", ".hidden", "a/b", ""])
    def test_a_card_names_no_other_place(self, exported, tmp_path, name) -> None:
        model = onnx.load(exported)
        (entry,) = [entry for entry in model.metadata_props if entry.key == "mmearth"]
        entry.value = json.dumps({**json.loads(entry.value), "id": name})
        (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match="cannot name a model"):
            import_onnx(tmp_path / "x.onnx", tmp_path / "models")
        assert not (tmp_path / "models").exists()

    def test_a_card_of_another_network_is_refused(self, exported, tmp_path) -> None:
        card = properties(exported)["mmearth"]
        path = make_file(tmp_path / "x.onnx", THREE, "Softmax", mmearth=card)
        with pytest.raises(ModelError, match="reads 3 bands in tiles of 64 pixels, but its card"):
            import_onnx(path, tmp_path / "models")

    def test_tiles_of_another_size_are_refused(self, exported, home, tmp_path) -> None:
        import_onnx(exported, home.home / "models", model_id="again")
        with pytest.raises(InputError, match="tile of 512 pixels"):
            segment(home, "again", DATA / "terramind_l2a.tif", tmp_path / "x.tif", tile_size=512)


class TestDeepnessFiles:
    """Maps are held against what deepness's own code makes of each pixel."""

    @pytest.fixture
    def picture(self, make_raster) -> Path:
        values = np.random.default_rng(3).integers(0, 256, (3, 90, 100)).astype(np.uint8)
        # One value in blocks, so that no blending of tiles shows.
        return make_raster("picture.tif", values, bands=RGB, pixel=0.4)

    @pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.8])
    def test_presence_of_one_class(self, home, tmp_path, picture, threshold) -> None:
        statistics = {"standardization_mean": [0.4, 0.5, 0.3], "standardization_std": [0.2] * 3}
        path = make_file(
            tmp_path / "Oil tanks.onnx", BINARY, "Sigmoid", seg_thresh=threshold,
            class_names=[{0: "background", 1: "Oil tank"}], **statistics,
        )  # fmt: skip
        card = import_onnx(path, home.home / "models", sensor="aerial-rgb", bands=RGB)
        assert card.id == "oil-tanks" and card.resolution_m == 0.4
        (product,) = card.products
        assert [row.title for row in product.classes] == ["Oil tank", "background"]
        found = segment(home, card.id, picture, tmp_path / "map.tif", product=product.id)
        probability = self.feed(path, picture, statistics)[0]
        clear = np.abs(probability - threshold) > 1e-4
        expected = np.where(probability >= threshold, 2, 1)
        np.testing.assert_array_equal(found[clear], expected[clear])

    @pytest.mark.parametrize(
        ("last", "threshold"),
        [("Softmax", 0.0), ("Softmax", 0.6), ("Sigmoid", 0.0), ("Sigmoid", 0.75)],
    )
    def test_several_classes(self, home, tmp_path, picture, last, threshold) -> None:
        path = make_file(
            tmp_path / "net.onnx", THREE, last, seg_thresh=threshold, batch=1,
            class_names={0: "_background", 1: "woodland", 2: "woodland"},
        )  # fmt: skip
        card = import_onnx(path, home.home / "models", sensor="aerial-rgb", bands=RGB)
        assert [row.name for row in card.classes] == ["background", "woodland", "woodland_3"]
        found = segment(home, card.id, picture, tmp_path / "map.tif")
        probabilities = self.feed(path, picture)
        kept = np.where(probabilities < threshold, 0, probabilities)
        first, second = np.sort(probabilities, axis=0)[[-1, -2]]
        clear = (np.abs(first - threshold) > 1e-4) & (first - second > 1e-4)
        assert clear.mean() > 0.99
        np.testing.assert_array_equal(found[clear], kept.argmax(axis=0)[clear] + 1)
        below = (probabilities.max(axis=0) < threshold).mean()
        assert below > 0.1 if threshold else below == 0
        assert any("do not sum to 1" in limit for limit in card.limits) == (last == "Sigmoid")

    def test_independent_probabilities_come_back(self, tmp_path) -> None:
        path = make_file(tmp_path / "net.onnx", THREE, "Sigmoid", seg_thresh=0.7)
        first = import_onnx(path, tmp_path / "first", sensor="aerial-rgb", bands=RGB)
        assert first.network.options["threshold"] == 0.7
        export_onnx(first, tmp_path / "second.onnx")
        second = import_onnx(tmp_path / "second.onnx", tmp_path / "second")
        assert second.network == first.network

    def test_scores_that_are_small_are_told_from_probabilities(self, tmp_path) -> None:
        """Of all pictures of 8 bits it makes numbers from 0 to 1."""
        path = make_file(tmp_path / "net.onnx", THREE / 20, None, bias=[0.3, 0.4, 0.5])
        card = import_onnx(path, tmp_path / "models", sensor="aerial-rgb", bands=RGB)
        assert card.network.options["output"] == "scores"
        assert "no probabilities" in card.limits[-1]

    def test_scores_are_made_probabilities(self, home, tmp_path, picture) -> None:
        path = make_file(tmp_path / "net.onnx", THREE, None, size="size", tiles_size=96)
        card = import_onnx(path, home.home / "models", sensor="aerial-rgb", bands=RGB)
        assert card.tile_size == 96 and "no probabilities" in card.limits[-1]
        found = segment(home, card.id, picture, tmp_path / "map.tif")
        scores = self.feed(path, picture)
        first, second = np.sort(scores, axis=0)[[-1, -2]]
        clear = first - second > 1e-4
        np.testing.assert_array_equal(found[clear], scores.argmax(axis=0)[clear] + 1)

    @pytest.mark.parametrize("tile", [16, 17, 24, 32])
    def test_small_tiles_can_be_mapped_with(self, home, tmp_path, picture, tile) -> None:
        path = make_file(
            tmp_path / "net.onnx", THREE, "Softmax", size="size", tile_size=tile, tiles_overlap=99
        )
        card = import_onnx(path, home.home / "models", sensor="aerial-rgb", bands=RGB)
        found = segment(home, card.id, picture, tmp_path / "map.tif")
        assert card.tile_size == tile and set(np.unique(found)) == {1, 2, 3}

    def test_titles_that_are_alike(self, tmp_path) -> None:
        titles = {0: "road 3", 1: "road", 2: "Road"}
        path = make_file(tmp_path / "net.onnx", THREE, "Softmax", class_names=titles)
        card = import_onnx(path, tmp_path / "models", sensor="aerial-rgb", bands=RGB)
        assert [row.title for row in card.classes] == list(titles.values())
        assert len({row.name for row in card.classes}) == 3

    @staticmethod
    def feed(path, picture, statistics=None) -> np.ndarray:
        plain = {"standardization_mean": [0.0] * 3, "standardization_std": [1.0] * 3}
        with rasterio.open(picture) as dataset:
            values = deepness_input(dataset.read().transpose(1, 2, 0), statistics or plain)
        model = onnx.load(path)
        for entry in (model.graph.input[0], model.graph.output[0]):  # of one size only
            for dimension, size in zip(entry.type.tensor_type.shape.dim[2:], values.shape[2:],
                                       strict=True):  # fmt: skip
                dimension.dim_value = size
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return session.run(None, {"x": values})[0][0]

    def test_numbers_of_other_sensors(self, home, tmp_path) -> None:
        """deepness divides any stored number by 255; ours are reflectance."""
        statistics = {"standardization_mean": [3.0] * 3, "standardization_std": [2.0] * 3}
        path = make_file(tmp_path / "s2.onnx", THREE, "Softmax", **statistics)
        bands = ("B04", "B03", "B02")
        card = import_onnx(path, home.home / "models", sensor="sentinel-2", bands=bands)
        stored = np.random.default_rng(0).integers(1, 3000, (SIDE, SIDE, 3)).astype(np.uint16)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, {"x": deepness_input(stored, statistics)})
        images = stored.transpose(2, 0, 1)[None].astype(np.float32) * np.float32(1e-4)
        found = Network(card, home).probabilities(images, np.ones((1, SIDE, SIDE), bool))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


class TestMetadata:
    """An entry that makes no sense is named, and told in words."""

    @pytest.mark.parametrize(
        ("key", "text", "match"),
        [
            ("class_names", "-" * 20_000 + "1", "class_names is .*, expected JSON"),
            ("class_names", "-" * 200_000 + "1", "class_names is .*, expected JSON"),
            ("class_names", "[" * 200_000, "class_names is .*, expected JSON"),
            ("class_names", "{[]: 1}", "class_names is .*, expected JSON"),
            ("class_names", r'{"0": "\ud800"}', "class_names is .*, expected JSON"),
            ("class_names", "[1, 2]", r"class_names is \[1, 2\], expected a title"),
            ("class_names", '{"one": "a"}', "class_names is .*, expected a title"),
            ("class_names", "{1e999: 'a'}", "class_names is .*, expected a title"),
            ("model_type", '["Segmentor"]', r"is a \['Segmentor'\] model"),
            ("resolution", "-40", "resolution is -40, expected centimetres"),
            ("resolution", "1" + "0" * 400, "resolution is 1000.*, expected a number"),
            ("seg_thresh", "NaN", "seg_thresh is nan, expected a number"),
            ("standardization_mean", "[NaN, 0, 0]", "standardization_mean is nan, expected a num"),
            ("standardization_mean", "0.5", "standardization_mean is 0.5, expected a list"),
            ("standardization_mean", "[1e308, 0, 0]", r"mean of 1e\+308 .* be computed with"),
            ("standardization_mean", "[1e39, 0, 0]", r"mean of 1e\+39 .* be computed with"),
            ("standardization_std", "[1, 1, 1e-320]", "of .*e-32[01] to 1, which cannot"),
            ("tile_size", "1e999", "tile_size is inf, expected a number"),
            ("tile_size", "64.5", "tile_size is 64.5, expected whole pixels"),
            ("tiles_overlap", "NaN", "tiles_overlap is nan, expected a number"),
        ],
    )  # fmt: skip
    def test_an_entry_is_refused(self, key, text, match) -> None:
        plain = {"model_type": '"Segmentor"', "standardization_mean": "[0, 0, 0]",
                 "standardization_std": "[1, 1, 1]"}  # fmt: skip
        with pytest.raises(ModelError, match=match) as caught:
            normalisation(
                read_metadata({**plain, key: text}, "x.onnx"), load_sensor("aerial-rgb"), 3
            )
        assert caught.value.advice and len(str(caught.value)) < 400

    def test_python_of_older_files_is_read(self) -> None:
        entries = {"model_type": "'Segmentor'", "class_names": "{0: 'a', 1: 'b'}"}
        model = read_metadata(entries, "x.onnx")
        assert model.class_names == ("a", "b") and model.resolution_m is None


class TestRefusals:
    """Each in words, and no folder is left."""

    def refused(self, path: Path, match: str, **told) -> None:
        told = {"sensor": "aerial-rgb", "bands": RGB, **told}
        folder = path.parent / "models"
        with pytest.raises(ModelError, match=match) as caught:
            import_onnx(path, folder, **told)
        assert caught.value.advice
        assert not folder.exists()

    @pytest.mark.parametrize("kind", ["Detector", "Regressor", "Superresolution", "Recognition"])
    def test_other_kinds(self, tmp_path, kind) -> None:
        path = make_file(tmp_path / "x.onnx", THREE, "Softmax", model_type=kind)
        self.refused(path, f"is a {kind} model")

    def test_what_is_not_said(self, tmp_path) -> None:
        path = make_file(tmp_path / "x.onnx", THREE, "Softmax", resolution=0)
        self.refused(path, "which pixel size")
        self.refused(path, "which sensor and bands", sensor=None)
        self.refused(path, "which sensor and bands", bands=())
        self.refused(path, "reads 3 bands, but 2 are named: red, green", bands=RGB[:2])
        self.refused(path, "no band nir", bands=("red", "green", "nir"))

    def test_damaged_metadata(self, tmp_path) -> None:
        for metadata, match in (
            ({"class_names": {0: "a", 2: "b", 3: "c"}}, "numbers of classes"),
            ({"class_names": {0: "a", 1: "b"}}, "names 2 classes, but its network tells 3 apart"),
            ({"seg_thresh": 7}, "seg_thresh is 7"),
            ({"resolution": "fine"}, "resolution is 'fine', expected a number"),
            ({"standardization_mean": [0.5], "standardization_std": [0.5]}, "1 means"),
            ({"standardization_mean": [0] * 3, "standardization_std": [0] * 3}, "above 0"),
        ):
            path = make_file(tmp_path / "x.onnx", THREE, "Softmax", **metadata)
            self.refused(path, match)

    @pytest.mark.parametrize("tile", [-5, 0, 15, 2049, 3000])
    def test_tiles_that_no_scene_is_cut_into(self, tmp_path, tile) -> None:
        path = make_file(tmp_path / "x.onnx", THREE, "Softmax", size="size", tile_size=tile)
        self.refused(path, f"speak of tiles of {tile} pixels; expected 16 to 2048")

    @pytest.mark.parametrize(("tile", "stride"), [(3200, 32), (64, 64), (8, 1)])
    def test_a_card_of_tiles_that_no_scene_is_cut_into(
        self, tmp_path, exported, tile, stride
    ) -> None:
        item = properties(exported)["mmearth"]
        item["properties"]["mlm:input"][0]["input"]["shape"][-2:] = [tile, tile]
        item["properties"]["mmearth:stride"] = stride
        weights = np.ones((9, 10))
        path = make_file(tmp_path / "x.onnx", weights, "Softmax", size="size", mmearth=item)
        self.refused(path, f"speak of tiles of {tile} pixels; expected")

    def test_no_onnx(self, tmp_path) -> None:
        for content in (b"", b"PK\x03\x04 a zip", b"\x80\x05 a pickle", bytes(1000)):
            (tmp_path / "x.onnx").write_bytes(content)
            self.refused(tmp_path / "x.onnx", "is no ONNX file")
        self.refused(tmp_path / "nowhere.onnx", "does not exist")
        whole = make_file(tmp_path / "x.onnx", THREE, "Softmax").read_bytes()
        (tmp_path / "x.onnx").write_bytes(whole[: len(whole) // 2])
        self.refused(tmp_path / "x.onnx", "is no ONNX file")

    def test_a_file_too_large_to_be_one(self, tmp_path) -> None:
        with (tmp_path / "x.onnx").open("wb") as file:
            file.truncate(2**31 + 1)  # sparse
        self.refused(tmp_path / "x.onnx", "2 GB at most")

    @pytest.mark.parametrize("where", ["initializer", "attribute"])
    def test_weights_elsewhere(self, tmp_path, where) -> None:
        (tmp_path / "secret").write_bytes(bytes(36))
        model = onnx.load(make_file(tmp_path / "x.onnx", THREE, "Softmax"))
        tensor = model.graph.initializer[0]
        if where == "attribute":
            node = helper.make_node("Constant", [], ["w"], value=tensor)
            del model.graph.initializer[0]
            model.graph.node.insert(0, node)
            tensor = model.graph.node[0].attribute[0].t
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../secret")
        (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
        self.refused(tmp_path / "x.onnx", "weights in other files")

    def test_operations_of_a_library(self, tmp_path) -> None:
        model = onnx.load(make_file(tmp_path / "x.onnx", THREE, "Softmax"))
        model.graph.node[0].domain = "com.example"
        model.opset_import.append(helper.make_opsetid("com.example", 1))
        (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
        self.refused(tmp_path / "x.onnx", "operations of com.example")

    def test_operations_of_the_future(self, tmp_path) -> None:
        path = make_file(tmp_path / "x.onnx", THREE, "Softmax", opset=99)
        self.refused(path, "cannot be run by onnxruntime")

    def test_shapes(self, tmp_path) -> None:
        self.refused(make_file(tmp_path / "x.onnx", THREE, "Softmax", size=8), "tiles of 8 pixels")
        self.refused(make_file(tmp_path / "x.onnx", THREE, "Softmax", batch=4), "batch of one")
        model = onnx.load(make_file(tmp_path / "x.onnx", THREE, "Softmax"))
        del model.graph.node[0]
        model.graph.node[0].input[0] = "x"
        del model.graph.input[0].type.tensor_type.shape.dim[0]
        del model.graph.output[0].type.tensor_type.shape.dim[0]
        (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
        self.refused(tmp_path / "x.onnx", r"shape \[3, 64, 64\]")
        model = onnx.load(make_file(tmp_path / "x.onnx", THREE, None))
        model.graph.node.append(helper.make_node("GlobalAveragePool", ["y"], ["p"]))
        model.graph.output[0].name = "p"
        for dimension in model.graph.output[0].type.tensor_type.shape.dim[2:]:
            dimension.dim_value = 1
        (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
        self.refused(tmp_path / "x.onnx", "expected a class map of the same size")

    def test_presence_that_is_no_probability(self, tmp_path) -> None:
        path = make_file(tmp_path / "x.onnx", BINARY, None)
        self.refused(path, "expected the probability of a class")

    def test_without_the_extra(self, tmp_path, tiny_model, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
        path = make_file(tmp_path / "x.onnx", THREE, "Softmax")
        with pytest.raises(MissingExtraError, match="--extra onnx") as caught:
            import_onnx(path, tmp_path / "models", sensor="aerial-rgb", bands=RGB)
        assert caught.value.code == "needs_extra"
        with pytest.raises(MissingExtraError):
            export_onnx(tiny_model, tmp_path / "tiny.onnx")
        assert not (tmp_path / "tiny.onnx").exists()
