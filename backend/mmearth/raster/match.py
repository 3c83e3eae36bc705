"""Finding a model's bands among the bands of the chosen rasters.

Order of evidence: the user's own choice, then name, alias, wavelength. A name that the stated
wavelength belies is none: band numbers mean other bands on other sensors. A band that is found only
by its position in a file of a usual band order is suggested, never used unasked; so it is where
numbers may only count the bands of the file. Of several bands that fit equally well none is taken.
Both are shown to the user.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from mmearth.api import BandChoice, BandMatch, MatchState, Problem
from mmearth.errors import BandMatchError, InputError, listed
from mmearth.raster.source import BandSource
from mmearth.raster.wavelengths import pair_by_wavelength
from mmearth.sensors import WAVELENGTH_ROUNDING_NM, Sensor, SensorBand, is_number

_Found = dict[str, list[BandSource]]  # by name of band: the sources that fit


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
    chosen: _Found = {choice.band: [_find(sources, choice)] for choice in choices}
    unknown = [name for name in chosen if name not in wanted]
    if unknown:
        raise InputError(
            f"The model has no band {listed(unknown)}.", f"Its bands are {listed(wanted)}."
        )
    bands = [sensor.band(name) for name in wanted]
    counting = _counting(sources, sensor)
    named, called = _by_words([one for one in sources if one.input not in counting], sensor)
    # A band that is found is looked for no more, and a source that has spoken is that band only.
    words = (chosen, named, called)
    searched = [band for band in bands if not any(found.get(band.name) for found in words)]
    spoken = {source.key for found in words for held in found.values() for source in held}
    near = _by_wavelength([source for source in sources if source.key not in spoken], searched)
    placed = _by_position(sources, sensor, counting)
    evidence = [
        (MatchState.exact, "chosen by you", chosen),
        (MatchState.exact, "name", named),
        (MatchState.likely, "common name", called),
        (MatchState.likely, "wavelength", near),
        (MatchState.suggested, "position", placed),
    ]
    return [_match(band, evidence) for band in bands]


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
            "The file names no bands, or only counts them: confirm the suggested order, or assign "
            "them by hand.",
        ),
    ]
    for state, words, advice in problems:
        bands = [match for match in matches if match.state is state]
        if bands:
            names = listed(f"{match.band} ({match.title})" for match in bands)
            raise BandMatchError(
                f"{len(bands)} of the model's {len(matches)} bands {words}: {names}.", advice
            )


def shared_bands(matches: Sequence[BandMatch]) -> list[Problem]:
    """Warn of bands of the rasters that are read for more than one band of the model."""
    readers: dict[tuple[int, int], list[BandMatch]] = defaultdict(list)
    for match in matches:
        if match.source:
            readers[match.source.input, match.source.index].append(match)
    shared = [held for held in readers.values() if len(held) > 1]
    if not shared:
        return []
    groups = listed((" and ".join(match.band for match in held) for held in shared), limit=5)
    return [
        Problem(
            code="shared_bands",
            message=f"{sum(map(len, shared))} of the model's {len(matches)} bands share a band of "
            f"the raster with another: {groups}. The raster's bands lie farther apart there than "
            "the model's, or elsewhere.",
            advice="Prefer a raster of the model's own sensor, or a model made for this one.",
        )
    ]


def distant_bands(matches: Sequence[BandMatch]) -> list[Problem]:
    """Warn of bands that were found by wavelength, and lie off it by more than metadata rounds."""
    distances = {
        match.band: match.residual_nm
        for match in matches
        if match.state is MatchState.likely and match.residual_nm is not None
    }
    off = {band: nm for band, nm in distances.items() if abs(nm) > WAVELENGTH_ROUNDING_NM}
    if not off:
        return []
    worst = max(off, key=lambda band: abs(off[band]))
    return [
        Problem(
            code="wavelengths",
            message=f"{len(distances)} bands were found by wavelength; {len(off)} of them lie more "
            f"than {WAVELENGTH_ROUNDING_NM:g} nm off, {worst} most: {off[worst]:+.1f} nm.",
            advice="Prefer a model made for this sensor, where there is one.",
        )
    ]


def _find(sources: Sequence[BandSource], choice: BandChoice) -> BandSource:
    for source in sources:
        if source.key == (choice.input, choice.index):
            return source
    raise InputError(
        f"Band {choice.band} is assigned to band {choice.index} of raster {choice.input + 1}, "
        "which does not exist.",
        "Assign it again.",
    )


def _counting(sources: Sequence[BandSource], sensor: Sensor) -> set[int]:
    """Return the inputs whose bands are called B1, B2, … as they come, though none usually are.

    Those may be the sensor's own numbers, or say no more than which band comes first. Numbers are
    names where they are spelt as the sensor spells them, as ``B01`` is, where another input names
    bands, and where wavelengths are stated.
    """
    own = {band.name for band in sensor.bands}
    usual = {
        len(order)
        for order in sensor.orders
        if all(is_number(name, place) for place, name in enumerate(order, 1))
    }
    files: dict[int, list[BandSource]] = defaultdict(list)
    for source in sources:
        files[source.input].append(source)
    counting = {
        number
        for number, held in files.items()
        if held[0].count > 1
        and held[0].count not in usual
        and all(
            source.wavelength_nm is None
            and any(is_number(hint, source.position) for hint in source.hints)
            for source in held
        )
        and not all(own.intersection(source.hints) for source in held)
    }
    others = (source for source in sources if source.input not in counting)
    named = any(sensor.find_by_name(hint) for source in others for hint in source.hints)
    return set() if named else counting


def _by_words(sources: Sequence[BandSource], sensor: Sensor) -> tuple[_Found, _Found]:
    """Return the sources of each band that say so by its name, and by a common name."""
    named: _Found = defaultdict(list)
    called: _Found = defaultdict(list)
    for source in sources:
        texts = (*source.hints, Path(source.dataset).stem)
        foreign = any(sensor.is_foreign(text) for text in texts)
        for find, found in ((sensor.find_by_name, named), (sensor.find_by_alias, called)):
            if foreign and find == sensor.find_by_name:
                continue
            band = next((band for hint in source.hints if (band := find(hint))), None)
            if band and not sensor.contradicts(band, source.wavelength_nm):
                found[band.name].append(source)
    return named, called


def _by_wavelength(sources: Sequence[BandSource], bands: Sequence[SensorBand]) -> _Found:
    """Return the sources of each band that lie nearest to it, one of each scene.

    A file of many bands is a scene of its own; files of single bands are parts of one.
    """
    scenes: dict[int, list[BandSource]] = defaultdict(list)
    for source in sources:
        scenes[source.input if source.count > 1 else -1].append(source)
    found: _Found = defaultdict(list)
    for scene in scenes.values():
        for name, held in pair_by_wavelength(bands, scene).items():
            found[name] += held
    return found


def _by_position(sources: Sequence[BandSource], sensor: Sensor, counting: set[int]) -> _Found:
    """Return the sources of each band by usual orders, in files that say nothing of any band.

    Args:
        sources: bands of all inputs.
        sensor: whose orders are looked at.
        counting: inputs whose numbers may only count their bands.
    """
    talking = {
        source.input
        for source in sources
        if source.wavelength_nm is not None
        or any(sensor.find_by_name(hint) or sensor.find_by_alias(hint) for hint in source.hints)
    }
    found: _Found = defaultdict(list)
    for source in sources:
        if source.input in counting or source.input not in talking:
            orders = [order for order in sensor.orders if len(order) == source.count]
            for name in {order[source.position - 1] for order in orders}:
                found[name].append(source)
    return found


def _match(band: SensorBand, evidence: Sequence[tuple[MatchState, str, _Found]]) -> BandMatch:
    """Believe the first evidence that there is."""
    for state, kind, found in evidence:
        sources = found.get(band.name, [])
        if len(sources) > 1:
            return BandMatch(
                band=band.name,
                title=band.title,
                state=MatchState.ambiguous,
                reason=f"{len(sources)} bands fit by {kind}",
                candidates=[source.reference() for source in sources],
            )
        if sources:
            source = sources[0]
            nm, wanted = source.wavelength_nm, band.wavelength_nm
            return BandMatch(
                band=band.name,
                title=band.title,
                state=state,
                source=source.reference(),
                reason=f"wavelength {nm:.0f} nm" if kind == "wavelength" else kind,
                residual_nm=None if nm is None or wanted is None else round(nm - wanted, 2),
            )
    return BandMatch(band=band.name, title=band.title, state=MatchState.missing)
