"""segmentation-models-pytorch, importable beside a CPU build of torch.

On Linux the package index carries torchvision only as a CUDA build. Beside a CPU torch its compiled
operators cannot load, and ``import torchvision`` (hence timm and segmentation-models-pytorch) fails
with "operator torchvision::nms does not exist", because a Python file of torchvision attaches shape
rules to that operator. Declaring the two operators first lets the import pass; no network here
calls them. Import segmentation-models-pytorch from this module only.
"""

from __future__ import annotations

import contextlib

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _declare_missing_operators() -> torch.library.Library | None:
    with contextlib.suppress(Exception):
        import torchvision  # noqa: F401

        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS.values():
        library.define(schema)
    return library


_library = _declare_missing_operators()  # kept alive: its declarations end with it

import segmentation_models_pytorch as smp  # noqa: E402

__all__ = ["smp"]
