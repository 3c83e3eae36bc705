"""The plugin speaks the interface that is committed, and no other."""

import ast
import json
import re
import subprocess

import pytest
from conftest import INSTALLED, ROOT

from qgis_mmearth.link import catalog, client, process
from qgis_mmearth.link.backend import Backend
from qgis_mmearth.link.environment import Environment
from qgis_mmearth.processing.algorithms import finetune, pretrain

OPENAPI = json.loads((ROOT / "backend" / "openapi.json").read_text())
PLUGIN = ROOT / "qgis_mmearth"
# Keys of dictionaries that never cross the wire.
OWN_KEYS = {
    "color", "outline_color", "outline_width", "path", "layerName", "vsiPrefix", "vsiSuffix",
    "openOptions", "app", "port", "lock", "status", "home", "Authorization",
    # Cards, which the backend's own tests hold to their form.
    "properties", "description", "title", "name", "mmearth:sensor", "mlm:input", "bands", "license",
    "mmearth:resolution_m", "mmearth:attribution", "mmearth:accuracy", "mmearth:products", "value",
    "mmearth:licence", "data", "file:size", "assets", "model", "id", "version", "classes",
    "mmearth:levels", "mmearth:limits", "mmearth:network", "mmearth:training", "source",
    "TMPDIR", "TEMP", "TMP", "creationflags", "start_new_session",
    "map",  # of QGIS's value maps
    "held",  # of pretraining's log
}  # fmt: skip


def schema_fields():
    fields = set()
    for schema in OPENAPI["components"]["schemas"].values():
        fields |= set(schema.get("properties", {}))
    return fields


def named_keys(tree):
    """Yield every constant text that a dictionary is asked for, as in d["x"] and d.get("x")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            key = node.slice.value
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            key = node.args[0].value
        else:
            continue
        if isinstance(key, str) and not key.isupper():
            yield key


@pytest.mark.parametrize("path", sorted(PLUGIN.rglob("*.py")), ids=lambda p: p.stem)
def test_every_field_that_the_plugin_names_exists(path):
    known = schema_fields() | OWN_KEYS
    unknown = {key for key in named_keys(ast.parse(path.read_text())) if key not in known}
    assert unknown == set()


def test_every_route_of_the_client_exists():
    source = (PLUGIN / "link" / "client.py").read_text()
    called = re.findall(r'self\._(get|post|delete)\(f?"([^"]+)"', source)
    assert len(called) == 10
    for method, path in called:
        pattern = re.sub(r"\{[^}]+\}", "{}", f"/v1{path}")
        routes = {re.sub(r"\{[^}]+\}", "{}", route): route for route in OPENAPI["paths"]}
        assert pattern in routes, path
        assert method in OPENAPI["paths"][routes[pattern]]


def test_versions_of_the_interface_agree():
    info = OPENAPI["components"]["schemas"]["ServiceInfo"]["properties"]["api"]
    assert info["default"] == process.API_VERSION


def test_over_means_the_same():
    states = OPENAPI["components"]["schemas"]["JobState"]["enum"]
    assert set(client.OVER) < set(states)
    assert set(states) - set(client.OVER) == {"queued", "running"}


def test_protocols_of_training_are_those_of_the_backend():
    field = OPENAPI["components"]["schemas"]["FinetuneSpec"]["properties"]["protocol"]
    assert field["enum"] == finetune.PROTOCOLS and field["default"] == finetune.PROTOCOLS[0]


@pytest.mark.parametrize("name", ["METHODS", "DATASETS"])
def test_ways_of_pretraining_are_those_of_the_backend(name):
    source = ROOT / "backend" / "mmearth" / "pretraining" / "registry.py"
    (known,) = [
        node.value.keys
        for node in ast.parse(source.read_text("utf-8")).body
        if isinstance(node, ast.Assign) and node.targets[0].id == name
    ]
    offered = getattr(pretrain, name)
    assert {key.value for key in known} == set(offered)
    usual = OPENAPI["components"]["schemas"]["PretrainSpec"]["properties"]
    assert usual[name[:-1].lower()]["default"] == offered[0]


def test_losses_are_those_of_the_backend():
    source = ROOT / "backend" / "mmearth" / "training" / "losses.py"
    (known,) = [
        node.value.keys
        for node in ast.parse(source.read_text("utf-8")).body
        if isinstance(node, ast.AnnAssign) and node.target.id == "LOSSES"
    ]
    assert [key.value for key in known] == finetune.LOSSES


def test_catalogue_agrees_with_the_backend(home):
    backend = Backend(Environment(home, ROOT / "backend"))
    try:
        told = {model["id"]: model for model in backend.client().models()["models"]}
    finally:
        backend.stop()
    read = catalog.installed_models([home / "models", ROOT / "resources" / "models"])
    assert {model.id for model in read} == set(told)
    for model in read:
        theirs = told[model.id]
        assert [name for name, _ in model.bands] == theirs["bands"]
        assert [p.id for p in model.products] == [p["id"] for p in theirs["products"]]
        assert model.size_bytes == theirs["size_bytes"]
        assert model.title == theirs["title"]
        assert list(model.levels) == theirs["levels"] and list(model.limits) == theirs["limits"]


def test_sensors_are_those_of_the_backend():
    script = (
        "import json; from mmearth.sensors import all_sensors\n"
        "bands = lambda sensor: [band.name for band in sensor.bands]\n"
        "print(json.dumps([[s.id, s.title, bands(s)] for s in all_sensors()]))"
    )
    answer = subprocess.check_output(
        [str(INSTALLED), "-c", script], env={"PYTHONPATH": str(ROOT / "backend")}, text=True
    )
    told = {identifier: (title, bands) for identifier, title, bands in json.loads(answer)}
    known = catalog.sensors(ROOT / "backend")
    assert {sensor.id: sensor.title for sensor in known} == {key: told[key][0] for key in told}
    for sensor in known:  # of hundreds of bands it knows none
        assert list(sensor.bands) == (told[sensor.id][1] if len(told[sensor.id][1]) < 100 else [])
    assert len(told) >= 7


def test_damaged_cards_are_left_out(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.json").write_text("{}")
    assert catalog.installed_models([tmp_path]) == []
