"""Pretext methods and kinds of data sets by name. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from mmearth.api import PretrainSpec
from mmearth.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from mmearth.models.card import ModelCard
    from mmearth.pretraining.dataset import Dataset
    from mmearth.pretraining.method import Pretext
    from mmearth.pretraining.modality import Modality

# name -> module with build(encoder, modalities, spec) -> Pretext
METHODS = {
    "mp-mae": "mmearth.pretraining.mpmae",
}

# name -> module with open_dataset(spec, like) -> Dataset
DATASETS = {
    "tiles": "mmearth.pretraining.datasets.tiles",
}


def build_method(encoder: nn.Module, modalities: Sequence[Modality], spec: PretrainSpec) -> Pretext:
    """Build a pretext method on an encoder.

    Raises:
        InputError: if there is none of that name.
        ModelError: if it cannot teach that encoder.
    """
    check_method(spec.method)
    build: Callable[..., Pretext] = import_module(METHODS[spec.method]).build
    return build(encoder, modalities, spec)


def check_method(name: str) -> None:
    """Check that there is a method of a name.

    Raises:
        InputError: if there is none.
    """
    if name not in METHODS:
        raise InputError(
            f"There is no pretraining method {name!r}.", f"There are {', '.join(METHODS)}."
        )


def open_dataset(spec: PretrainSpec, like: ModelCard | None) -> Dataset:
    """Open the data set of a request.

    Args:
        spec: the request.
        like: model whose bands and normalisation are taken; None to measure them.

    Raises:
        InputError: if it cannot be read, or does not hold what is asked for.
    """
    if spec.dataset not in DATASETS:
        raise InputError(
            f"There is no kind of data set {spec.dataset!r}.", f"There are {', '.join(DATASETS)}."
        )
    opened: Dataset = import_module(DATASETS[spec.dataset]).open_dataset(spec, like)
    return opened
