"""Models that map the same classes from more or fewer bands of the same sensor."""

from __future__ import annotations

from collections.abc import Sequence

from mmearth.api import BandChoice, BandMatch, MatchState, Problem
from mmearth.errors import BandMatchError, counted, listed
from mmearth.models.card import ModelCard
from mmearth.models.registry import installed_models
from mmearth.raster.match import match_bands
from mmearth.raster.source import BandSource
from mmearth.sensors import Sensor
from mmearth.settings import Settings


def with_smaller_model(
    error: BandMatchError,
    card: ModelCard,
    sensor: Sensor,
    sources: Sequence[BandSource],
    choices: Sequence[BandChoice],
    settings: Settings,
) -> BandMatchError:
    """Return what is said of missing bands, with the model that does without them, if there is one.

    Args:
        error: of the model whose bands are missing.
        card: of that model.
        sensor: that it is for.
        sources: bands of all rasters.
        choices: bands that the user has assigned.
        settings: say where models are.
    """
    sure = (MatchState.exact, MatchState.likely)
    for other in _siblings(card, settings):
        if not set(other.bands) < set(card.bands):
            continue
        known = [choice for choice in choices if choice.band in other.bands]
        matches = match_bands(sources, other.bands, sensor, choices=known)
        if all(match.state in sure for match in matches):
            advice = (
                f"{error.advice} Or choose the model ‘{other.title}’ ({other.id}), which does "
                "without them."
            )
            return BandMatchError(error.message, advice)
    return error


def larger_model(
    card: ModelCard,
    sensor: Sensor,
    sources: Sequence[BandSource],
    settings: Settings,
) -> list[Problem]:
    """Warn if rasters hold some, but not all, of the bands that a model reads beyond this one's.

    Rasters that hold none of them are what the smaller model is for; where all are there, the user
    has chosen it.

    Args:
        card: of the model that is used.
        sensor: that it is for.
        sources: bands of all rasters.
        settings: say where models are.
    """
    for other in _siblings(card, settings):
        more = [band for band in other.bands if band not in card.bands]
        if not more or not set(card.bands) < set(other.bands):
            continue
        matches: list[BandMatch] = match_bands(sources, more, sensor)
        lacking = [match.band for match in matches if match.state is MatchState.missing]
        if 0 < len(lacking) < len(more):
            return [
                Problem(
                    code="larger_model",
                    message=f"{card.title} leaves {counted(len(more) - len(lacking), 'band')} of "
                    f"the rasters unread. {other.title} would read more, but the "
                    f"rasters lack {listed(lacking)}.",
                    advice=f"Add the missing bands and choose {other.title}, or go on without.",
                )
            ]
    return []


def _siblings(card: ModelCard, settings: Settings) -> list[ModelCard]:
    names = [row.name for row in card.classes]
    products = {product.id for product in card.products}
    return [
        other
        for other in installed_models(settings.model_folders)
        if other.sensor == card.sensor
        and names
        and [row.name for row in other.classes] == names
        and {product.id for product in other.products} == products
        and other.id != card.id
    ]
