"""Cards are valid STAC items that answer every question, and damaged models are told."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from stac import check_stac

from mmearth.errors import ModelError
from mmearth.models.card import (
    ContinuousValue,
    ModelCard,
    NetworkConfig,
    file_sha256,
    read_card,
)
from mmearth.models.network import Network
from mmearth.models.readme import README_NAME, describe
from mmearth.models.save import save_model
from mmearth.settings import EMBEDDED_MODELS

EMBEDDED = sorted(path.parent for path in EMBEDDED_MODELS.glob("*/model.json"))


@pytest.fixture
def copy(tiny_model, tmp_path):
    """A copy of the tiny model that may be damaged."""
    return shutil.copytree(tiny_model.folder, tmp_path / "tiny")


def test_reading_gives_what_was_written(tiny_model, tiny_facts) -> None:
    read = read_card(tiny_model.folder).model_dump(mode="json")
    for name, value in tiny_facts.items():
        value = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        assert json.loads(json.dumps(value)).__eq__(_plain(read[name], value)), name


def _plain(read, like):
    """Leave out defaults that were not written."""
    if isinstance(like, dict):
        return {key: _plain(read[key], like[key]) for key in like}
    if isinstance(like, (list, tuple)):
        return [_plain(r, v) for r, v in zip(read, like, strict=True)]
    return read


@pytest.mark.parametrize("folder", EMBEDDED, ids=lambda folder: folder.name)
class TestEmbeddedModels:
    """What ships is whole, small and says where it comes from."""

    def test_whole(self, folder) -> None:
        read_card(folder).check_weights()

    def test_small(self, folder) -> None:
        assert (folder / "model.safetensors").stat().st_size <= 12 * 2**20

    def test_says_where_it_comes_from(self, folder) -> None:
        card = read_card(folder)
        assert card.id == folder.name
        assert card.licence and card.attribution and card.accuracy and card.training["command"]
        assert card.limits

    def test_readme_says_what_the_card_says(self, folder) -> None:
        assert (folder / README_NAME).read_text("utf-8") == describe(read_card(folder))

    def test_loads(self, folder, settings) -> None:
        network = Network(read_card(folder), settings)
        assert network.workload(network.card.tile_size).batch_size >= 1

    def test_follows_stac(self, folder) -> None:
        check_stac(json.loads((folder / "model.json").read_text("utf-8")))


def test_there_is_an_embedded_model() -> None:
    assert EMBEDDED


def test_tiny_follows_stac(tiny_model) -> None:
    check_stac(json.loads((tiny_model.folder / "model.json").read_text("utf-8")))


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item["properties"].update({"license": "none stated"}),
        lambda item: item["assets"]["model"].pop("bands"),
        lambda item: item["properties"].update({"datetime": "yesterday"}),
        lambda item: item["properties"]["mlm:output"][0].pop("classification:classes"),
        lambda item: item["properties"]["mlm:input"][0]["value_scaling"].pop(),
    ],
)
def test_what_breaks_stac_is_noticed(tiny_model, change) -> None:
    item = json.loads((tiny_model.folder / "model.json").read_text("utf-8"))
    change(item)
    with pytest.raises((AssertionError, KeyError)):
        check_stac(item)


def test_changed_weights_are_refused(copy) -> None:
    path = copy / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged: expected SHA-256"):
        read_card(copy).check_weights()


def test_missing_weights_are_said(copy) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="are missing"):
        read_card(copy).check_weights()


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_are_refused(copy, settings, change) -> None:
    path = copy / "model.safetensors"
    state = load_file(path)
    name = next(iter(state))
    if change == "missing":
        del state[name]
    elif change == "extra":
        state["surplus.weight"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(3)
    save_file(state, path)
    restamp(copy)
    with pytest.raises(ModelError, match="do not fit its network"):
        Network(read_card(copy), settings)


def test_weights_of_another_kind_are_refused(copy, settings) -> None:
    (copy / "model.safetensors").write_bytes(b"\x80\x05pickle")
    restamp(copy)
    with pytest.raises(ModelError, match="cannot be read"):
        Network(read_card(copy), settings)


def restamp(folder) -> None:
    """Make the card speak of the weight file as it is."""
    card = json.loads((folder / "model.json").read_text())
    card["assets"]["model"]["file:checksum"] = "1220" + file_sha256(folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["properties", "mmearth:normalisation", "mean"], [1.0], "10 bands need 10 means"),
        (["properties", "mmearth:stride"], 7, "no multiple of 7"),
        (["properties", "mmearth:sensor"], None, "sensor"),
        (["properties", "mlm:input"], [], "cannot be read"),
        (["assets"], {}, "model is missing"),
    ],
)
def test_wrong_cards_are_refused(copy, path, value, message) -> None:
    card = json.loads((copy / "model.json").read_text())
    *parents, last = path
    place = card
    for key in parents:
        place = place[key]
    place[last] = value
    (copy / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=message):
        read_card(copy)


REGRESSION = {
    "task": "regression",
    "classes": (),
    "products": (),
    "value": {"name": "density", "title": "tree cover density", "unit": "%", "range": (0, 100)},
}
SCENES = {
    "task": "scene-labels",
    "products": (),
    "network": NetworkConfig(decoder="scene", encoder="resnet18", multiply_adds_per_pixel=1),
}
FEATURES = {
    "task": "features",
    "classes": (),
    "products": (),
    "network": NetworkConfig(decoder="features", encoder="resnet18", multiply_adds_per_pixel=1),
}


@pytest.mark.parametrize(
    ("changes", "tasks", "words"),
    [
        ({}, ["semantic-segmentation"], "Tree mask"),
        (REGRESSION, ["regression"], "predicts tree cover density, 0 to 100 %"),
        (SCENES, ["scene-classification"], "labels whole images with 3 classes"),
        (FEATURES, [], "an encoder, to be trained further"),
    ],
)
def test_cards_of_every_task_come_back_and_say_it(tiny_facts, tmp_path, changes, tasks, words):
    card = save_model(tmp_path / "m", {"x": torch.ones(1)}, {**tiny_facts, **changes})
    assert card.task == {**tiny_facts, **changes}.get("task", "segmentation")
    assert card.value == (ContinuousValue(**changes["value"]) if "value" in changes else None)
    item = json.loads((card.folder / "model.json").read_text("utf-8"))
    assert item["properties"]["mlm:tasks"] == tasks
    check_stac(item)
    assert words in (card.folder / README_NAME).read_text("utf-8")


def test_a_temperature_for_each_class_comes_back_and_is_said(tiny_facts, tmp_path) -> None:
    own = (0.5, 1.25, 2.0)
    card = save_model(tmp_path / "m", {"x": torch.ones(1)}, {**tiny_facts, "temperature": own})
    assert card.temperature == own
    item = json.loads((card.folder / "model.json").read_text("utf-8"))
    assert item["properties"]["mmearth:temperature"] == list(own)
    check_stac(item)
    assert "| 2 | Trees | `trees` | 1.250 |" in describe(card)
    one = save_model(tmp_path / "m", {"x": torch.ones(1)}, {**tiny_facts, "temperature": 1.25})
    assert one.temperature == 1.25 and "| 2 | Trees | `trees` |\n" in describe(one)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperature": (1.0, 1.0)}, "one number or 3, found 2"),
        ({"temperature": ()}, "one number or 3, found 0"),
        ({"temperature": (1.0, 0.0, 1.0)}, "more than 0"),
        ({"temperature": -1.0}, "more than 0"),
        ({"temperature": (1.0, float("nan"), 1.0)}, "finite number"),
        ({**REGRESSION, "temperature": (1.0,)}, "one number, found 1"),
        ({**SCENES, "temperature": (1.0,) * 3}, "one number, found 3"),
    ],
)
def test_temperatures_that_fit_no_class_are_refused(tiny_facts, tmp_path, changes, words) -> None:
    with pytest.raises(ValueError, match=words):
        save_model(tmp_path / "m", {"x": torch.ones(1)}, {**tiny_facts, **changes})
    assert not (tmp_path / "m").exists()


def test_a_diagram_beside_the_weights_is_shown_and_stays(tiny_facts, tmp_path) -> None:
    weights, beside = {"x": torch.ones(1)}, {"reliability.svg": "<svg/>"}
    plain = save_model(tmp_path / "m", weights, tiny_facts)
    assert "reliability.svg" not in (plain.folder / README_NAME).read_text("utf-8")
    save_model(tmp_path / "m", weights, tiny_facts, beside=beside)
    again = save_model(tmp_path / "m", weights, tiny_facts)
    assert (again.folder / "reliability.svg").read_text() == "<svg/>"
    words = (again.folder / README_NAME).read_text("utf-8")
    assert "](reliability.svg)" in words and words == describe(again)


def test_cards_without_a_task_map_classes(copy) -> None:
    """So did all before there was the field."""
    item = json.loads((copy / "model.json").read_text())
    del item["properties"]["mmearth:task"]
    (copy / "model.json").write_text(json.dumps(item))
    assert read_card(copy).task == "segmentation"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ()}, "segmentation needs classes"),
        ({**REGRESSION, "value": None}, "regression needs value"),
        ({**REGRESSION, "task": "segmentation"}, "segmentation needs classes"),
        ({**FEATURES, "value": REGRESSION["value"]}, "features has no value"),
        ({"task": "scene-labels", "network": SCENES["network"]}, "scene-labels has no products"),
        ({"network": SCENES["network"]}, "scene-labels needs the decoder scene"),
        ({**REGRESSION, "value": {**REGRESSION["value"], "range": (5, 5)}}, "must ascend"),
        ({**REGRESSION, "value": {**REGRESSION["value"], "range": (0, math.inf)}}, "finite"),
    ],
)
def test_cards_that_contradict_their_task_are_refused(tiny_facts, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        ModelCard(**{**tiny_facts, **changes}, sha256="0", folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (REGRESSION, "predicts tree cover density, 0 to 100 %; it does not map classes"),
        (SCENES, "labels whole images with 3 classes; it does not map classes"),
        (FEATURES, "is an encoder and maps nothing by itself"),
    ],
)
def test_other_tasks_have_no_products(tiny_facts, tmp_path, changes, words) -> None:
    card = ModelCard(**{**tiny_facts, **changes}, sha256="0", folder=tmp_path)
    with pytest.raises(ModelError, match=words):
        card.product(None)


def test_unknown_product_lists_the_known(tiny_model) -> None:
    with pytest.raises(ModelError, match="landcover, treemask"):
        tiny_model.product("gold")


def _set(key, value):
    def change(item) -> None:
        item["properties"][key] = value

    return change


def _class(key, value):
    def change(item) -> None:
        item["properties"]["mlm:output"][0]["classification:classes"][0][key] = value

    return change


def _product(key, value):
    def change(item) -> None:
        item["properties"]["mmearth:products"][0][key] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("mmearth:stride", 0),
        _set("mmearth:temperature", 0),
        _set("mmearth:resolution_m", -10),
        _set("mmearth:normalisation", {"mean": [0] * 10, "std": [0] * 10}),
        _set("mlm:input", None),
        _class("color_hint", 419),
        _class("value", 2),
        _class("name", "trees"),
        _product("classes", []),
        _product("members", ["trees"]),
        lambda item: item["assets"]["model"].update({"file:checksum": None}),
        lambda item: item["properties"]["mlm:input"][0].update({"bands": ["B02"] * 10}),
        lambda item: item["properties"]["mlm:input"][0]["input"].update({"shape": [0]}),
    ],
)
def test_damaged_cards_are_model_errors(copy, change) -> None:
    item = json.loads((copy / "model.json").read_text())
    change(item)
    (copy / "model.json").write_text(json.dumps(item))
    with pytest.raises(ModelError, match="card of model tiny cannot be read"):
        read_card(copy)
