"""Rules of STAC items with the MLM extension."""

from __future__ import annotations


def check_stac(item: dict) -> None:
    """Check what STAC 1.1 and MLM 1.5 require of an item, by their specifications."""
    assert item["type"] == "Feature" and item["stac_version"] == "1.1.0"
    assert {"id", "geometry", "bbox", "properties", "links", "assets"} <= set(item)
    properties = item["properties"]
    assert properties["datetime"] is None
    assert properties["start_datetime"] < properties["end_datetime"]
    required = {"mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"}
    assert required <= set(properties)
    (entry,) = properties["mlm:input"]
    names = [band["name"] for band in properties["bands"]]
    assert entry["bands"] == names
    shape = entry["input"]["shape"]
    assert len(shape) == len(entry["input"]["dim_order"]) and shape[1] == len(names)
    (output,) = properties["mlm:output"]
    if "semantic-segmentation" in properties["mlm:tasks"]:
        assert output["result"]["shape"][1] == len(output["classification:classes"])
    if "regression" in properties["mlm:tasks"]:
        assert output["result"]["shape"][1] == 1 and not output.get("classification:classes")
    if "scene-classification" in properties["mlm:tasks"]:
        assert output["result"]["shape"] == [-1, len(output["classification:classes"])]
    assert output["tasks"] == properties["mlm:tasks"]
    result = output["result"]
    assert len(result["shape"]) == len(result["dim_order"])
    assert all(0.3 < band["eo:center_wavelength"] < 15 for band in properties["bands"])
    asset = item["assets"]["model"]
    assert "mlm:model" in asset["roles"]
    assert asset["mlm:artifact_type"] == "safetensors.torch.save_file"
    assert asset["file:checksum"].startswith("1220") and len(asset["file:checksum"]) == 68
