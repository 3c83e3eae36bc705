"""Loss of forest on labelled sites of bark-beetle damage: our rule beside differencing an index.

    python -m benchmarks disturbance --data <folder with s2/index.json and disturbance/>

Each site is seen in September of two years. All F1 are of damaged pixels, all sites taken together.
Ours is cross-validated by site: its threshold is tuned on four fifths of the sites and measured on
the others. Index and teacher have one threshold, the best one on these very sites. Which index the
rule takes was chosen after a look at all of these sites, so no row is blind to that choice.

The masks serve to tune a threshold and to measure; no weight of the rule or of a network is fitted
to them. The thresholds that are shipped (``mmearth/change/rule.toml``) are tuned on all sites. What
this run finds is written to ``build/disturbance_rule.toml``, to be copied there: the last rows of
the table tell whether what is shipped still does as well.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from benchmarks import ROOT
from benchmarks.common import MODEL, row
from mmearth.api import MappingSpec, RasterInput
from mmearth.change.compare import EVEN, forest_medians, loss_odds
from mmearth.change.evidence import DARKEST, date_evidence, weigh
from mmearth.change.rule import Rule, load_rules
from mmearth.inference.predict import compute_rows
from mmearth.jobs.prepare import prepare
from mmearth.models.network import Network, loaded
from mmearth.settings import Settings

FOLDS = 5
TARGET = 0.65
YEARS = ("2019", "2020")
INDICES = {
    "NBR": ("B08", "B12"),
    "NDMI": ("B08", "B11"),
    "NDVI": ("B08", "B04"),
    "green and red": ("B03", "B04"),
}
TO_DEVIATION = 1.4826  # from median absolute to standard deviation, if normal
WRITTEN = ROOT / "build" / "disturbance_rule.toml"
COMMAND = "python -m benchmarks disturbance --data <folder>"


@dataclass(frozen=True)
class Site:
    """A site at both dates.

    Attributes:
        trees: (2, h, w) float32, the model's probability of trees at each date.
        image: (2, C, h, w) float32, reflectance.
        teacher: (2, h, w) float32, the teacher's probability of trees.
        damaged: (h, w) bool.
        valid: (h, w) bool, data at both dates.
    """

    trees: NDArray[np.float32]
    image: NDArray[np.float32]
    teacher: NDArray[np.float32]
    damaged: NDArray[np.bool_]
    valid: NDArray[np.bool_]


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    data = Path(os.environ.get("MMEARTH_DATA", ""))
    if not (data / "disturbance").is_dir():
        return [row("not measured: MMEARTH_DATA names no folder with disturbance/", np.nan)]
    settings = Settings(home=scratch / "home", memory_mb=1024)
    shipped = load_rules()
    bands, sites = read_sites(data, settings)
    table = [row(f"sites, of {sum(site.valid.sum() for site in sites):,} pixels", len(sites))]
    for name, pair in INDICES.items():
        drops = [_index(site, bands, *pair) for site in sites]
        table.append(row(f"F1, {name}: drop, best threshold", _best(sites, drops)[0]))
    drops = [site.teacher[0] - site.teacher[1] for site in sites]
    table.append(row("F1, teacher: drop in P(trees), best threshold", _best(sites, drops)[0]))
    drops = [site.trees[0] - site.trees[1] for site in sites]
    table.append(row("F1, model: drop in P(trees), best threshold", _best(sites, drops)[0]))
    written = [f"# Weights are stated, none is fitted. Written by: {COMMAND}"]
    for rule in shipped:
        pick = [bands.index(name) for name in rule.bands]
        seen = [replace(site, image=site.image[:, pick]) for site in sites]
        score, spread = cross_validated(seen, rule)
        bound = f"at least {TARGET}" if rule.bands else ""
        held = score >= TARGET or not rule.bands
        what = f"F1, rule {rule.id}, cross-validated by site (folds ± {spread:.3f})"
        table.append(row(what, score, bound, held))
        table.append(row(f"F1, rule {rule.id}, as shipped, on all sites", f1(seen, rule)))
        written += as_toml(tuned(seen, rule))
    WRITTEN.parent.mkdir(exist_ok=True)
    WRITTEN.write_text("\n".join(written) + "\n")
    return table


def read_sites(data: Path, settings: Settings) -> tuple[tuple[str, ...], list[Site]]:
    """Run the model on both dates of each site, as the job does; also return its bands."""
    sites = []
    bands: tuple[str, ...] = ()
    for path in sorted((data / "disturbance").glob("*.damage.tif")):
        name = path.name.partition(".")[0]
        shares, images, teachers = [], [], []
        for year in YEARS:
            scene = data / "s2" / "czech" / f"{name}_{year}.tif"
            spec = MappingSpec(
                kind="disturbance", inputs=[RasterInput(path=str(scene))], model=MODEL
            )
            ready = prepare(spec, settings)
            bands = ready.card.bands
            network = loaded(Network, ready.card, settings)
            rows = compute_rows(
                ready.stack(),
                date_evidence(network, load_rules()[-1]),
                ready.layout,
                network.workload(ready.layout.rows.tile),
            )
            shares.append(np.concatenate([part.values[0].numpy() for part in rows]))
            with ready.stack() as stack:
                image, valid = stack.read_rows(0, ready.grid.height)
            shares[-1][~valid] = np.nan
            images.append(image)
            with rasterio.open(scene.with_suffix(".teacher.tif")) as source:
                teachers.append(source.read(2) / np.float32(250))
        with rasterio.open(path) as source:
            damaged = source.read(1) == 1
        valid = np.isfinite(shares).all(axis=0)
        sites.append(Site(np.stack(shares), np.stack(images), np.stack(teachers), damaged, valid))
    return bands, sites


def cross_validated(sites: Sequence[Site], rule: Rule) -> tuple[float, float]:
    """Return F1 over all sites, each judged by a threshold tuned without it, and its spread."""
    fold = np.random.default_rng(0).permutation(len(sites)) % FOLDS
    counts = []
    for number in range(FOLDS):
        others = [site for site, own in zip(sites, fold, strict=True) if own != number]
        tested = [site for site, own in zip(sites, fold, strict=True) if own == number]
        counts.append(_counts(tested, tuned(others, rule)))
    return _f1(np.sum(counts, axis=0)), float(np.std([_f1(part) for part in counts], ddof=1))


def f1(sites: Sequence[Site], rule: Rule) -> float:
    """Return F1 over all sites."""
    return _f1(_counts(sites, rule))


def tuned(sites: Sequence[Site], rule: Rule) -> Rule:
    """Return the rule with its threshold tuned to the masks of sites.

    What forest looks like and how its evidence spreads is taken from their images alone.
    """
    forest = [_logarithms(site)[:, :, _forest(site, rule)] for site in sites]
    bands = np.concatenate(forest, axis=2).swapaxes(0, 1)
    rule = replace(rule, typical=tuple(float(np.median(band)) for band in bands))
    # Whatever was cleared is called at any threshold, so it tells nothing of the best one.
    plain = replace(rule, cleared=-1.0, threshold=0.0, spread=1.0)
    found = [_odds(site, plain) for site in sites]
    stayed = np.concatenate(
        [one[_forest(site, rule)] for one, site in zip(found, sites, strict=True)]
    )
    spread = TO_DEVIATION * np.median(np.abs(stayed - np.median(stayed)))
    _, threshold = _best(sites, found)
    return replace(rule, threshold=threshold, spread=float(spread))


def as_toml(rule: Rule) -> list[str]:
    """Write a rule as a table of the file."""

    def numbers(values: Sequence[float], kind: str = "g") -> str:
        return "[" + ", ".join(f"{value:{kind}}" for value in values) + "]"

    names = ", ".join(f'"{name}"' for name in rule.bands)
    return [
        "",
        f"[{rule.id}]",
        f'sensor = "{rule.sensor}"',
        f"bands = [{names}]",
        f"typical = {numbers(rule.typical, '.4f')}",
        f"before = {numbers(rule.before)}",
        f"after = {numbers(rule.after)}",
        f"window = {rule.window}",
        f"threshold = {rule.threshold:.3f}",
        f"spread = {rule.spread:.3f}",
        f"forest = {rule.forest}",
        f"least = {rule.least}",
        f"cleared = {rule.cleared}",
    ]


def _forest(site: Site, rule: Rule) -> NDArray[np.bool_]:
    """Return where there is forest on both dates, and data."""
    return np.asarray((site.trees >= rule.forest).all(axis=0))


def _logarithms(site: Site) -> NDArray[np.float32]:
    return np.log(np.maximum(site.image, DARKEST))


def _odds(site: Site, rule: Rule) -> NDArray[np.float32]:
    """Return the log odds of a loss, as the job has them."""
    dates = weigh(torch.from_numpy(site.trees), torch.from_numpy(site.image), rule).numpy()
    medians = forest_medians(list(dates.reshape(2, dates.shape[1], -1)), rule)
    dates[:, 1:] -= medians[:, :, None, None]
    return loss_odds(dates[0], dates[1], site.valid, rule)


def _counts(sites: Sequence[Site], rule: Rule) -> NDArray[np.int64]:
    """Return right, called and damaged pixels."""
    counts = np.zeros(3, np.int64)
    for site in sites:
        called = (_odds(site, rule) >= EVEN) & site.valid
        damaged = site.damaged & site.valid
        counts += [(called & damaged).sum(), called.sum(), damaged.sum()]
    return counts


def _f1(counts: NDArray[np.int64]) -> float:
    return float(2 * counts[0] / (counts[1] + counts[2]))


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
    index = (one - other) / np.maximum(one + other, DARKEST)
    return np.asarray(index[0] - index[1])
