"""Pretext methods and kinds of data sets by name. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from mmearth.api import PretrainSpec, Problem
from mmearth.errors import InputError, ModelError
from mmearth.pretraining.datasets.listing import HELD, LEARNED

if TYPE_CHECKING:
    from torch import nn

    from mmearth.models.card import ModelCard
    from mmearth.pretraining.dataset import Dataset
    from mmearth.pretraining.method import Pretext
    from mmearth.pretraining.modality import Modality

# name -> module with build(encoder, modalities, spec, places) -> Pretext, and its Options
METHODS = {
    "dino": "mmearth.pretraining.dino",
    "mae": "mmearth.pretraining.mae",
    "moco": "mmearth.pretraining.moco",
    "mp-mae": "mmearth.pretraining.mpmae",
}

# name -> module with open_dataset(spec, like, learned) -> Dataset, which reads it, and check(spec,
# like) -> names of its bands, which does not. Where another part of it is ``learned``, all is
# standardised by that part's statistics.
DATASETS = {
    "mmearth-h5": "mmearth.pretraining.datasets.mmearth_h5",
    "spectral-earth": "mmearth.pretraining.datasets.spectral_earth",
    "ssl4eo-eu-forest": "mmearth.pretraining.datasets.ssl4eo_eu_forest",
    "ssl4eo-s12": "mmearth.pretraining.datasets.ssl4eo_s12",
    "tiles": "mmearth.pretraining.datasets.tiles",
}


def build_method(
    encoder: nn.Module,
    modalities: Sequence[Modality],
    spec: PretrainSpec,
    places: int | None = None,
) -> Pretext:
    """Build a pretext method on an encoder.

    Args:
        encoder: of ``build_encoder``.
        modalities: the image first.
        spec: the request.
        places: that it learns from; None if they are not known yet.

    Raises:
        InputError: if there is none of that name, or it has no such options.
        ModelError: if it cannot teach that encoder.
    """
    if spec.method not in METHODS:
        raise InputError(
            f"There is no pretraining method {spec.method!r}.", f"There are {', '.join(METHODS)}."
        )
    if not any(True for _ in encoder.parameters()):
        raise ModelError(
            f"The encoder {spec.encoder} has nothing to learn.", "Choose another encoder."
        )
    build: Callable[..., Pretext] = import_module(METHODS[spec.method]).build
    return build(encoder, modalities, spec, places)


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
    return _opened(spec, like, None)


def open_held(spec: PretrainSpec, like: ModelCard | None, data: Dataset) -> Dataset | None:
    """Open what a data set holds back of itself, to compare on; None if there is nothing.

    Args:
        spec: the request.
        like: see ``open_dataset``.
        data: what is learned from. All is standardised by its statistics; a warning is added to
            its own if what is held back cannot be used.
    """
    if data.split != LEARNED or HELD not in data.parts:
        return None
    try:
        return _opened(spec.model_copy(update={"split": HELD}), like, data)
    except InputError as error:
        message = f"The part {HELD!r} cannot be compared on: {error.message}"
        data.warnings.append(Problem(code="held", message=message, advice=error.advice))
        return None


def _opened(spec: PretrainSpec, like: ModelCard | None, learned: Dataset | None) -> Dataset:
    opened: Dataset = _dataset(spec.dataset).open_dataset(spec, like, learned)
    return opened


def _dataset(name: str) -> ModuleType:
    if name not in DATASETS:
        raise InputError(
            f"There is no kind of data set {name!r}.", f"There are {', '.join(DATASETS)}."
        )
    return import_module(DATASETS[name])
