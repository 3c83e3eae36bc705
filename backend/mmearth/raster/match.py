"""Finding a model's bands among the bands of the chosen rasters.

Order of evidence: the user's own choice, then name, alias, wavelength (± 15 nm). A band that is
found only by its position in a file of a usual band order is suggested, never used unasked; of
several bands that fit equally well none is taken. Both are shown to the user.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmearth.api import BandChoice, BandMatch, MatchState
from mmearth.errors import BandMatchError, InputError
from mmearth.raster.source import BandSource
from mmearth.sensors import WAVELENGTH_TOLERANCE_NM, Sensor, SensorBand


def match_bands(
    sources: Sequence[BandSource],
    wanted: Sequence[str],
    sensor: Sensor,
    *,
    choices: Sequence[BandChoice] = (),
) -> list[BandMatch]:
    """Find each wanted band, in order.

    Args:
        sources: bands of all inputs.
        wanted: names of the model's bands, in the model's order.
        sensor: the sensor that the names belong to.
        choices: assignments made by the user; they win over everything else.

    Raises:
        InputError: if a choice names a band that does not exist.
    """
    chosen = {choice.band: _find(sources, choice) for choice in choices}
    unknown = [name for name in chosen if name not in wanted]
    if unknown:
        raise InputError(
            f"The model has no band {', '.join(unknown)}.", f"Its bands are {', '.join(wanted)}."
        )
    silent = _silent_inputs(sources, sensor)
    return [_match(sources, sensor.band(name), sensor, chosen.get(name), silent) for name in wanted]


def require_all(matches: Sequence[BandMatch]) -> None:
    """Check that every band is found for certain.

    Raises:
        BandMatchError: naming every band that is missing, ambiguous or only suggested.
    """
    problems = [
        (MatchState.missing, "not found", "Add the layers that hold them, or assign them by hand."),
        (MatchState.ambiguous, "found more than once", "Choose one layer for each of them."),
        (
            MatchState.suggested,
            "recognised only by position",
            "The file names no bands: confirm the suggested order, or assign them by hand.",
        ),
    ]
    for state, words, advice in problems:
        bands = [match for match in matches if match.state is state]
        if bands:
            names = ", ".join(f"{match.band} ({match.title})" for match in bands)
            raise BandMatchError(
                f"{len(bands)} of the model's {len(matches)} bands {words}: {names}.", advice
            )


def _find(sources: Sequence[BandSource], choice: BandChoice) -> BandSource:
    for source in sources:
        if (source.input, source.index) == (choice.input, choice.index):
            return source
    raise InputError(
        f"Band {choice.band} is assigned to band {choice.index} of raster {choice.input + 1}, "
        "which does not exist.",
        "Assign it again.",
    )


def _silent_inputs(sources: Sequence[BandSource], sensor: Sensor) -> set[int]:
    """Return the inputs that say nothing of any of their bands; only there positions may speak."""
    talking = {
        source.input
        for source in sources
        if source.wavelength_nm is not None
        or any(sensor.find_by_name(hint) or sensor.find_by_alias(hint) for hint in source.hints)
    }
    return {source.input for source in sources} - talking


def _match(
    sources: Sequence[BandSource],
    band: SensorBand,
    sensor: Sensor,
    chosen: BandSource | None,
    silent: set[int],
) -> BandMatch:
    match = BandMatch(band=band.name, title=band.title, state=MatchState.missing)
    if chosen:
        return match.model_copy(
            update={
                "state": MatchState.exact,
                "source": chosen.reference(),
                "reason": "chosen by you",
            }
        )
    for state, reason, fits in _evidence(band, sensor, silent):
        found = [source for source in sources if fits(source)]
        if len(found) == 1:
            why = reason
            if reason == "wavelength":
                why = f"wavelength {found[0].wavelength_nm:.0f} nm"
            return match.model_copy(
                update={"state": state, "source": found[0].reference(), "reason": why}
            )
        if found:
            return match.model_copy(
                update={
                    "state": MatchState.ambiguous,
                    "reason": f"{len(found)} bands fit by {reason}",
                    "candidates": [source.reference() for source in found],
                }
            )
    return match


def _evidence(
    band: SensorBand, sensor: Sensor, silent: set[int]
) -> list[tuple[MatchState, str, Callable[[BandSource], bool]]]:
    def by_name(source: BandSource) -> bool:
        named = (sensor.find_by_name(hint) for hint in source.hints)
        return next((found for found in named if found), None) == band

    def by_alias(source: BandSource) -> bool:
        named = (sensor.find_by_alias(hint) for hint in source.hints)
        return next((found for found in named if found), None) == band

    def by_wavelength(source: BandSource) -> bool:
        if source.wavelength_nm is None:
            return False
        distances = {b.name: abs(b.wavelength_nm - source.wavelength_nm) for b in sensor.bands}
        nearest = min(distances, key=lambda name: distances[name])
        return nearest == band.name and distances[nearest] <= WAVELENGTH_TOLERANCE_NM

    def by_position(source: BandSource) -> bool:
        if source.input not in silent:
            return False
        orders = [order for order in sensor.orders if len(order) == source.count]
        return any(order[source.position - 1] == band.name for order in orders)

    return [
        (MatchState.exact, "name", by_name),
        (MatchState.likely, "common name", by_alias),
        (MatchState.likely, "wavelength", by_wavelength),
        (MatchState.suggested, "position", by_position),
    ]
