"""Which installed model suits a request for a product."""

from __future__ import annotations

from mmearth.api import MatchState, Plan, SegmentSpec
from mmearth.errors import ModelError
from mmearth.jobs.registry import plan_job
from mmearth.models.registry import installed_models
from mmearth.settings import Settings


def choose_model(spec: SegmentSpec, settings: Settings) -> SegmentSpec:
    """Return a request with the model that suits its rasters.

    Of the models that offer the product and can read the rasters, it is the one that makes use of
    most bands; of several such, the first. Where a model lacks no band, but it is not certain
    which band is which, it is that one: the user is to be asked.

    Args:
        spec: names a product; its model is not looked at.
        settings: say where models are.

    Returns:
        The request; if no model can read the rasters, with the first that lacks no band, or else
        the first, which then says why.

    Raises:
        ModelError: if no model offers the product.
    """
    cards = [
        card
        for card in installed_models(settings.model_folders)
        if any(product.id == spec.product for product in card.products)
    ]
    if not cards:
        raise ModelError(
            f"No installed model maps {spec.product!r}.", "Install one; see 'mmearth models'."
        )
    cards.sort(key=lambda card: -len(card.bands))
    refused: list[tuple[bool, SegmentSpec]] = []
    for card in cards:
        request = spec.model_copy(update={"model": card.id})
        plan = plan_job(request, settings)
        if plan.ready or _is_to_be_asked(plan):
            return request
        refused.append((_lacks_bands(plan), request))
    return min(refused, key=lambda found: found[0])[1]


def _is_to_be_asked(plan: Plan) -> bool:
    states = {match.state for match in plan.bands}
    return not _lacks_bands(plan) and bool(states & {MatchState.ambiguous, MatchState.suggested})


def _lacks_bands(plan: Plan) -> bool:
    return not plan.bands or any(match.state is MatchState.missing for match in plan.bands)
