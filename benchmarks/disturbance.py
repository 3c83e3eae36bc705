"""Loss of forest on labelled sites of bark-beetle damage: our rule beside differencing an index.

    python -m benchmarks disturbance --data <folder with s2/index.json and disturbance/>

Each site is seen in September of two years. All F1 are of damaged pixels, all sites taken together.
Ours is cross-validated by site: its thresholds are tuned on four fifths of the sites and measured
on the others. Index and teacher have one threshold, the best one on these very sites.

Which index the shipped rule takes was chosen after a look at all of these sites. How much that
flatters is told by the nested choice: of all ``CANDIDATES``, with each of ``SHADES``, ``AFTER``,
``WINDOWS`` and ``MOST``, the best one on four fifths of the sites is measured on the others. Not
chosen anew are the probabilities ``forest`` and ``least``; and what forest looks like,
and at which thresholds it is looked, comes from the images of all sites, without their masks.

The network has learned from most of these very images, with the teacher's labels of both dates,
though never from a mask. Rows "network never saw" are of the sites whose tiles the index of s2/
keeps back, each judged by thresholds tuned without its fold.

The masks serve to tune thresholds and to measure; no weight of the rule or of a network is fitted
to them. The thresholds that are shipped (``mmearth/change/rule.toml``) are tuned on all sites. What
this run finds is written to ``build/disturbance_rule.toml``, to be copied there: the rows "as
shipped" tell whether what is shipped still does as well.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from benchmarks import ROOT
from benchmarks.common import MODEL, row
from benchmarks.sites import Site, read_sites
from benchmarks.thresholds import FOLDS, Tally, f1, folds, others, pooled
from mmearth.change.compare import (
    MAPPED,
    forest_medians,
    in_same_light,
    loss_evidence,
    loss_odds,
    nothing_to_lose,
    possible_loss,
    probability_of,
    stable_forest,
)
from mmearth.change.evidence import weigh
from mmearth.change.rule import Rule, load_rules
from mmearth.models.registry import find_model
from mmearth.settings import Settings

BINS = 5  # of probability
TARGET = 0.65
INDICES = {
    "NBR": ("B08", "B12"),
    "NDMI": ("B08", "B11"),
    "NDVI": ("B08", "B04"),
    "green and red": ("B03", "B04"),
}
# Among which a nested choice is made: each of these, with the band in which forest is dark before
# (none for any), as a drop, or with what is seen after counted twice. In tenths of reflectance.
CANDIDATES: dict[str, dict[str, float]] = {
    "red": {"B04": 10},
    "red less green": {"B04": 10, "B03": -10},
    "red less blue": {"B04": 10, "B02": -10},
    "red less green and blue": {"B04": 20, "B03": -10, "B02": -10},
    "short-wave infrared 1": {"B11": 10},
    "short-wave infrared 2": {"B12": 10},
    # Crist, 1985, Remote Sensing of Environment 17, 301-306.
    "tasselled-cap wetness": {"B02": -0.315, "B03": -2.021, "B04": -3.102, "B8A": -1.594,
                              "B11": 6.806, "B12": 6.109},
}  # fmt: skip
SHADES = ("", "B8A", "B11")
AFTER = (1.0, 2.0)
WINDOWS = (1, 3, 5, 7)
MOST = (np.inf, 1.6, 3.0)
WRITTEN = ROOT / "build" / "disturbance_rule.toml"
COMMAND = "python -m benchmarks disturbance --data <folder>"


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    data = Path(os.environ.get("MMEARTH_DATA", ""))
    if not (data / "disturbance").is_dir():
        return [row("not measured: MMEARTH_DATA names no folder with disturbance/", np.nan)]
    settings = Settings(home=scratch / "home", memory_mb=1024)
    shipped = load_rules()
    models = dict.fromkeys(rule.model for rule in shipped)
    seen_by = {name: read_sites(data, name, settings) for name in models}
    bands, sites = seen_by[MODEL]
    table = [row(f"sites, of {sum(site.valid.sum() for site in sites):,} pixels", len(sites))]
    table += _neighbours(sites)
    for name, pair in INDICES.items():
        drops = [_index(site, bands, *pair) for site in sites]
        table.append(row(f"F1, {name}: drop, best threshold", _best(sites, drops)[0]))
    drops = [site.teacher[0] - site.teacher[1] for site in sites]
    table.append(row("F1, teacher: drop in P(trees), best threshold", _best(sites, drops)[0]))
    drops = [site.trees[0] - site.trees[1] for site in sites]
    table.append(row("F1, model: drop in P(trees), best threshold", _best(sites, drops)[0]))
    written = [f"# Weights are stated, none is fitted. Written by: {COMMAND}"]
    for rule in shipped:
        its_bands, its_sites = seen_by[rule.model]
        seen = _of_bands(its_sites, its_bands, rule)
        tally = Tally.of(*_pixels(seen, rule))
        score, spread = tally.cross_validated()
        aimed = rule is shipped[0]
        bound = f"at least {TARGET}" if aimed else ""
        what = f"F1, rule {rule.id}, cross-validated by site (folds ± {spread:.3f})"
        table.append(row(what, score, bound, score >= TARGET or not aimed))
        table.append(row(f"F1, rule {rule.id}, as shipped, on all sites", score_of(seen, rule)))
        table += _of_possible(seen, rule)
        table += _of_unseen(seen, rule, tally)
        table += _reliability(seen, rule, tally)
        sha256 = find_model(rule.model, settings.model_folders).sha256
        written += as_toml(replace(tuned(seen, rule, tally), model_sha256=sha256))
    score, spread, names = nested(sites, bands, shipped[0])
    what = f"F1, chosen and tuned on four fifths of the sites (folds ± {spread:.3f})"
    table.append(row(f"{what}: {'; '.join(names)}", score))
    WRITTEN.parent.mkdir(exist_ok=True)
    WRITTEN.write_text("\n".join(written) + "\n")
    return table


def tuned(
    sites: Sequence[Site], rule: Rule, tally: Tally, own: Sequence[int] = range(FOLDS)
) -> Rule:
    """Return the rule with its thresholds tuned to the masks of some folds of sites.

    What forest looks like is taken from the images alone.
    """
    sites = [site for site, fold in zip(sites, folds(len(sites)), strict=True) if fold in own]
    _, (step, limit) = tally.best(own)
    threshold, brightest = float(tally.steps[step]), float(tally.limits[limit])
    evidence, shade, damaged, _ = _pixels(sites, rule)
    doubtful = np.isfinite(evidence) & (shade <= brightest)
    mapped, spread = _logistic(evidence[doubtful] - threshold, damaged[doubtful])
    return replace(
        rule,
        typical=_typical(sites, rule),
        threshold=threshold,
        brightest=brightest if rule.bands else np.inf,
        mapped=mapped,
        spread=spread,
    )


def nested(
    sites: Sequence[Site], bands: Sequence[str], rule: Rule
) -> tuple[float, float, list[str]]:
    """Choose among ``CANDIDATES`` without the sites that are then judged by what was chosen.

    Returns:
        F1 over all sites, its spread over folds, and of how many what was chosen in how many folds.
    """
    scores: dict[str, list[float]] = {}  # without each fold
    counts: dict[str, list[NDArray[np.int64]]] = {}  # of that fold
    for name, weights in CANDIDATES.items():
        for shade in SHADES:
            own = [band for band in bands if band in {*weights, shade, rule.light}]
            index = tuple(weights.get(band, 0.0) for band in own)
            plain = replace(rule, bands=tuple(own), index=index, shade=shade)
            seen = _of_bands(sites, bands, plain)
            plain = replace(plain, typical=_typical(seen, plain))
            dates = [_dates(site, plain) for site in seen]
            for after, window, most in product(AFTER, WINDOWS, MOST):
                other = replace(plain, after=(0.0, after), window=window, most=most)
                title = f"{name}, {shade or 'any'} before, after x {after:g}, "
                title += f"{window} pixels, at most {most:g}"
                tally = Tally.of(*_pixels(seen, other, dates))
                best = [tally.best(others(fold)) for fold in range(FOLDS)]
                scores[title] = [score for score, _ in best]
                counts[title] = [tally.counts(fold, best[fold][1]) for fold in range(FOLDS)]
    chosen = [max(scores, key=lambda one: scores[one][fold]) for fold in range(FOLDS)]
    judged = [counts[name][fold] for fold, name in enumerate(chosen)]
    found = [f"{name} ({chosen.count(name)})" for name in dict.fromkeys(chosen)]
    return *pooled(judged), [f"of {len(scores)}", *found]


def score_of(sites: Sequence[Site], rule: Rule) -> float:
    """Return F1 over all sites."""
    return f1(np.sum([_counts(site, rule) for site in sites], axis=0))


def as_toml(rule: Rule) -> list[str]:
    """Write a rule as a table of the file."""

    def numbers(values: Sequence[float], kind: str = "g") -> str:
        return "[" + ", ".join(f"{value:{kind}}" for value in values) + "]"

    names = ", ".join(f'"{name}"' for name in rule.bands)
    return [
        "",
        f"[{rule.id}]",
        f'model = "{rule.model}"',
        f'model_sha256 = "{rule.model_sha256}"  # pragma: allowlist secret',
        f'sensor = "{rule.sensor}"',
        f"bands = [{names}]",
        f"typical = {numbers(rule.typical, '.4f')}",
        f"index = {numbers(rule.index)}",
        f'light = "{rule.light}"',
        f'shade = "{rule.shade}"',
        f"before = {numbers(rule.before)}",
        f"after = {numbers(rule.after)}",
        f"window = {rule.window}",
        f"most = {rule.most}",
        f"threshold = {rule.threshold:.3f}",
        f"mapped = {rule.mapped:.2f}",
        f"spread = {rule.spread:.3f}",
        f"brightest = {rule.brightest:.4f}",
        f"forest = {rule.forest}",
        f"least = {rule.least}",
    ]


def _neighbours(sites: Sequence[Site]) -> list[dict[str, Any]]:
    """Return how many sites have another one near them that is in another fold."""
    places, fold = np.array([site.place for site in sites]), folds(len(sites))
    away = np.linalg.norm(places[:, None] - places, axis=2)
    away[fold[:, None] == fold] = np.inf
    return [
        row(f"sites with one of another fold within {km} km", (away.min(1) <= 1000 * km).sum())
        for km in (1, 5)
    ]


def _of_unseen(sites: Sequence[Site], rule: Rule, tally: Tally) -> list[dict[str, Any]]:
    """Return F1 on sites that the network never saw, each judged by what was tuned without it."""
    fold = folds(len(sites))
    counts = []
    for number in range(FOLDS):
        own = [one for one, its in zip(sites, fold, strict=True) if its == number and one.unseen]
        if own:
            held = tuned(sites, rule, tally, others(number))
            counts += [_counts(site, held) for site in own]
    what = f"F1, rule {rule.id}, cross-validated, {len(counts)} sites that the network never saw"
    return [row(what, f1(np.sum(counts, axis=0)) if counts else np.nan)]


def _of_possible(sites: Sequence[Site], rule: Rule) -> list[dict[str, Any]]:
    """Return how much is damaged of what the shipped rule calls a loss, a possible one, or none."""
    pixels = {name: np.zeros(2, np.int64) for name in ("loss", "possible loss", "no loss")}
    for site in sites:
        before, after = dates = _dates(site, rule)
        lost = loss_odds(before, after, site.valid, rule) >= MAPPED
        possible = possible_loss(*dates[:, 0], rule) & ~lost
        for name, called in zip(pixels, (lost, possible, ~(lost | possible)), strict=True):
            called = called & site.valid
            pixels[name] += [called.sum(), (called & site.damaged).sum()]
    total, damaged = np.sum([*pixels.values()], axis=0)
    table = [row(f"damaged of all pixels, rule {rule.id}", damaged / total)]
    for name, (count, found) in pixels.items():
        what = f"damaged where rule {rule.id}, as shipped, says {name} ({count / total:.1%})"
        table.append(row(what, found / count if count else np.nan))
    called, right = pixels["loss"] + pixels["possible loss"]
    both = f1(np.array([right, called, damaged]))
    what = f"F1, rule {rule.id}, as shipped, possible loss counted as loss"
    table.append(row(what, both))
    return table


def _reliability(sites: Sequence[Site], rule: Rule, tally: Tally) -> list[dict[str, Any]]:
    """Return how often there is damage where it has some probability, each site held out."""
    fold = folds(len(sites))
    told, damaged = [], []
    for number in range(FOLDS):
        held = tuned(sites, rule, tally, others(number))
        for site in (one for one, own in zip(sites, fold, strict=True) if own == number):
            told.append(probability_of(_odds(site, held)[site.valid], held))
            damaged.append(site.damaged[site.valid])
    told, damaged = np.concatenate(told), np.concatenate(damaged)
    place = np.minimum((told * BINS).astype(int), BINS - 1)
    table, error = [], 0.0
    for number in range(BINS):
        own = place == number
        error += own.sum() * abs(told[own].mean() - damaged[own].mean()) if own.any() else 0
        low, high = (round(100 * part / BINS) for part in (number, number + 1))
        what = f"damaged where rule {rule.id} says {low} to {high} % ({own.mean():.1%} of pixels)"
        table.append(row(what, damaged[own].mean() if own.any() else np.nan))
    what = f"calibration error of rule {rule.id}, held out, {BINS} bins"
    return [*table, row(what, error / len(told))]


def _typical(sites: Sequence[Site], rule: Rule) -> tuple[float, ...]:
    """Return the median reflectance, over both dates, of what is forest on both for sure."""
    forest = [site.image[:, :, stable_forest(site.trees[:, None], rule)] for site in sites]
    bands = np.concatenate(forest, axis=2).swapaxes(0, 1)
    return tuple(float(np.median(band)) for band in bands)


def _logistic(beyond: NDArray[np.float32], damaged: NDArray[np.bool_]) -> tuple[float, float]:
    """Return what makes the log odds of damage likely, by evidence beyond the threshold.

    Returns:
        The probability at the threshold, in whole percents, and what to divide evidence by.
    """
    signs = np.where(damaged, 1.0, -1.0)
    values = beyond.astype(np.float64)

    def surprise(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = signs * (line[0] + line[1] * values)
        slopes = -signs * expit(-odds)
        gradient = np.array([slopes.mean(), (slopes * values).mean()])
        return float(np.logaddexp(0, -odds).mean()), gradient

    shift, slope = minimize(surprise, [0.0, 1.0], jac=True).x
    return round(float(expit(shift)), 2), float(1 / slope)


def _of_bands(sites: Sequence[Site], bands: Sequence[str], rule: Rule) -> list[Site]:
    """Return the sites with the bands of a rule alone."""
    pick = [bands.index(name) for name in rule.bands]
    return [replace(site, image=site.image[:, pick]) for site in sites]


def _dates(site: Site, rule: Rule) -> NDArray[np.float32]:
    """Return both dates in the same light, as the job has them."""
    dates = weigh(torch.from_numpy(site.trees), torch.from_numpy(site.image), rule).numpy()
    medians = forest_medians(list(dates.reshape(2, dates.shape[1], -1)), rule)
    return in_same_light(dates, medians, rule)


def _evidence(
    site: Site, dates: NDArray[np.float32], rule: Rule
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return evidence and shade of valid pixels, infinite where there was nothing to lose."""
    before, after = dates
    evidence, shade = loss_evidence(before, after, site.valid, rule)
    evidence[nothing_to_lose(before[0], after[0], rule)] = -np.inf
    return evidence[site.valid], shade[site.valid]


def _pixels(
    sites: Sequence[Site], rule: Rule, dates: Sequence[NDArray[np.float32]] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]:
    """Return evidence, shade, damage and fold of all valid pixels; ``dates`` as of ``_dates``."""
    dates = [_dates(site, rule) for site in sites] if dates is None else dates
    found = (_evidence(site, both, rule) for site, both in zip(sites, dates, strict=True))
    evidence, shade = zip(*found, strict=True)
    return (
        np.concatenate(evidence),
        np.concatenate(shade),
        np.concatenate([site.damaged[site.valid] for site in sites]),
        np.repeat(folds(len(sites)), [int(site.valid.sum()) for site in sites]),
    )


def _odds(site: Site, rule: Rule) -> NDArray[np.float32]:
    """Return the log odds of a loss, as the job has them."""
    return loss_odds(*_dates(site, rule), site.valid, rule)


def _counts(site: Site, rule: Rule) -> NDArray[np.int64]:
    """Return right, called and damaged pixels."""
    called = (_odds(site, rule) >= MAPPED) & site.valid
    damaged = site.damaged & site.valid
    return np.array([(called & damaged).sum(), called.sum(), damaged.sum()])


def _best(sites: Sequence[Site], drops: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Return the best F1 of calling what is at least a threshold, and that threshold."""
    values = np.concatenate([one[site.valid] for one, site in zip(drops, sites, strict=True)])
    damaged = np.concatenate([site.damaged[site.valid] for site in sites])
    order = np.argsort(-values)
    right = np.cumsum(damaged[order])
    scores = 2 * right / (np.arange(1, len(order) + 1) + damaged.sum())
    best = int(scores.argmax())
    return float(scores[best]), float(values[order][best])


def _index(site: Site, bands: tuple[str, ...], first: str, second: str) -> NDArray[np.float32]:
    """Return the drop in the normalised difference of two bands."""
    one, other = (site.image[:, bands.index(name)] for name in (first, second))
    index = (one - other) / np.maximum(one + other, 1e-4)
    return np.asarray(index[0] - index[1])
