"""Pretext methods and kinds of data sets by name. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
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

# name -> module with open_dataset(spec, like) -> Dataset, which reads it, and check(spec, like) ->
# names of its bands, which does not
DATASETS = {
    "mmearth-h5": "mmearth.pretraining.datasets.mmearth_h5",
    "spectral-earth": "mmearth.pretraining.datasets.spectral_earth",
    "ssl4eo-eu-forest": "mmearth.pretraining.datasets.ssl4eo_eu_forest",
    "ssl4eo-s12": "mmearth.pretraining.datasets.ssl4eo_s12",
    "tiles": "mmearth.pretraining.datasets.tiles",
}


def build_method(encoder: nn.Module, modalities: Sequence[Modality], spec: PretrainSpec) -> Pretext:
    """Build a pretext method on an encoder.

    Raises:
        InputError: if there is none of that name.
        ModelError: if it cannot teach that encoder.
    """
    if spec.method not in METHODS:
        raise InputError(
            f"There is no pretraining method {spec.method!r}.", f"There are {', '.join(METHODS)}."
        )
    build: Callable[..., Pretext] = import_module(METHODS[spec.method]).build
    return build(encoder, modalities, spec)


def check_dataset(spec: PretrainSpec, like: ModelCard | None) -> tuple[str, ...]:
    """Look at a data set without reading it; arguments and errors as of ``open_dataset``.

    Returns:
        Bands of its images that would be read.
    """
    check: Callable[..., tuple[str, ...]] = _dataset(spec.dataset).check
    return check(spec, like)


def open_dataset(spec: PretrainSpec, like: ModelCard | None) -> Dataset:
    """Open the data set of a request.

    Args:
        spec: the request.
        like: model whose bands and normalisation are taken; None to measure them.

    Raises:
        InputError: if it cannot be read, or does not hold what is asked for.
    """
    opened: Dataset = _dataset(spec.dataset).open_dataset(spec, like)
    return opened


def _dataset(name: str) -> ModuleType:
    if name not in DATASETS:
        raise InputError(
            f"There is no kind of data set {name!r}.", f"There are {', '.join(DATASETS)}."
        )
    return import_module(DATASETS[name])
