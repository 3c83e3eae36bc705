"""Rules of STAC items with the MLM extension.

STAC's own schemas (item 1.1.0 and what it refers to) and GeoJSON's come with ``pystac-core``. The
extensions' come with no package, so what they require is written out here, after MLM 1.5.2,
Classification 1.1.0 and 2.0.0, Electro-Optical 2.0.0 and File 2.1.0.
"""

from __future__ import annotations

import re

from jsonschema import Draft7Validator, FormatChecker
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

SCHEMAS = get_local_schema_cache()
ITEM = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"
EXTENSIONS = [
    "https://stac-extensions.github.io/mlm/v1.5.2/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
]
FORMATS = [("PyTorch", "safetensors.torch.save_file"), ("ONNX", "onnx")]
SCALINGS = {
    "z-score": {"type", "mean", "stddev"},
    "processing": {"type", "format", "expression"},
}


def check_stac(item: dict) -> None:
    """Check an item by STAC's schemas, and what its extensions require by their specifications."""
    registry = Registry().with_resources(
        (uri, Resource.from_contents(schema)) for uri, schema in SCHEMAS.items()
    )
    validator = Draft7Validator(SCHEMAS[ITEM], registry=registry, format_checker=FormatChecker())
    assert [error.message for error in validator.iter_errors(item)] == []
    properties = item["properties"]
    radar = properties["mmearth:quantity"] == "backscatter"
    assert item["stac_extensions"] == [
        uri
        for uri in EXTENSIONS
        if not (radar and "/eo/" in uri)  # which needs wavelengths
    ]
    assert properties["datetime"] is None
    assert properties["start_datetime"] < properties["end_datetime"]
    required = {"mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"}
    assert required <= set(properties)
    _check_bands(item)
    _check_input(item)
    _check_output(item)
    asset = item["assets"]["model"]
    assert "mlm:model" in asset["roles"]
    # The framework's name must be one of the schema's.
    assert (properties["mlm:framework"], asset["mlm:artifact_type"]) in FORMATS
    assert re.fullmatch("1220[0-9a-f]{64}", asset["file:checksum"]) and asset["file:size"] > 0


def _check_bands(item: dict) -> None:
    bands = item["properties"]["bands"]
    assert [band["name"] for band in bands] == [
        band["name"] for band in item["assets"]["model"]["bands"]
    ]
    if item["properties"]["mmearth:quantity"] == "backscatter":
        assert not any("eo:center_wavelength" in band for band in bands)
    else:
        assert all(0.3 < band["eo:center_wavelength"] < 15 for band in bands)
        assert all(band["eo:full_width_half_max"] > 0 for band in bands)


def _check_input(item: dict) -> None:
    (entry,) = item["properties"]["mlm:input"]
    names = [band["name"] for band in item["properties"]["bands"]]
    assert entry["name"] and entry["bands"] == names
    shape, order = entry["input"]["shape"], entry["input"]["dim_order"]
    assert len(shape) == len(order) and shape[order.index("bands")] == len(names)
    if item["properties"]["mmearth:normalisation"]["inside"]:
        assert entry["value_scaling"] is None
        return
    assert len(entry["value_scaling"]) == len(names)
    assert all(set(scaling) == SCALINGS[scaling["type"]] for scaling in entry["value_scaling"])


def _check_output(item: dict) -> None:
    properties = item["properties"]
    (output,) = properties["mlm:output"]
    assert output["name"] and output["tasks"] == properties["mlm:tasks"]
    # MLM knows no task of an encoder, and its schema refuses words of one's own.
    task = next(iter(properties["mlm:tasks"]), "")
    assert (task == "") == (properties["mmearth:task"] == "features")
    shape = output["result"]["shape"]
    assert len(shape) == len(output["result"]["dim_order"])
    classes = output.get("classification:classes")
    assert bool(properties["mmearth:products"]) == (task == "semantic-segmentation")
    if task in ("semantic-segmentation", "scene-classification"):
        assert len(shape) == (4 if task == "semantic-segmentation" else 2)
        assert shape[1] == len(classes or ())
        for row in classes:
            assert isinstance(row["value"], int) and row["description"]
            assert re.fullmatch("[0-9A-Za-z_-]+", row["name"])
            assert re.fullmatch("[0-9A-F]{6}", row["color_hint"])
    else:
        assert task in ("regression", "")
        assert classes is None
    if task == "regression":
        assert shape[1] == 1
