"""Which model suits rasters: what the backend says of each."""

from typing import Any, Dict, Iterable, List, Tuple

from .catalog import Model

Choice = Tuple[str, str]
"""Identifiers of a model and of one of its products."""


def that_map(models: Iterable[Model], product: str) -> List[Choice]:
    """Return the models that offer a product; those that make use of most bands first."""
    offering = [m for m in models if any(found.id == product for found in m.products)]
    return [(m.id, product) for m in sorted(offering, key=lambda m: -len(m.bands))]


def first_that_fits(client, spec: Dict[str, Any], candidates: List[Choice]):
    """Return the first model and product whose plan has no errors, and its plan.

    Of a model that lacks no band, but asks which band is which, it is that one. If there is none,
    it is the first that lacks no band, whose errors say most; else the first.

    Args:
        client: of the backend.
        spec: what is asked for; the results that its outputs name are not written.
        candidates: at least one.
    """
    found = []
    for model, product in candidates:
        plan = client.plan({**spec, "model": model, "product": product})
        if not plan["errors"] or _asks(plan):
            return (model, product), plan
        found.append(((model, product), plan))
    return min(found, key=lambda one: _lacks_bands(one[1]))


def _asks(plan: Dict[str, Any]) -> bool:
    states = {match["state"] for match in plan["bands"]}
    return not _lacks_bands(plan) and bool(states & {"ambiguous", "suggested"})


def _lacks_bands(plan: Dict[str, Any]) -> bool:
    return not plan["bands"] or any(match["state"] == "missing" for match in plan["bands"])
