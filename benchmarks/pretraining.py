"""What pretraining on several modalities is worth: against one modality, and against none at all.

    python -m benchmarks pretraining --data <folder with s2/index.json>

The two claims of MMEarth (Nedungadi et al. 2024), at our scale: an encoder that learned to tell
several modalities (MP-MAE) beats one that learned from optical images alone (MAE), and one that
learned nothing, in linear probing and in fine-tuning on 10 % of the labels. All arms have the same
encoder, images, crops and steps; none sees a label before it is evaluated.

The encoder reads the four bands of 10 m. Beside the image, MP-MAE learns to tell what it is not
shown: the bands of the red edge and the short-wave infrared, and B01 and B09 (aerosols and water
vapour). The teacher's classes, by which the encoders are evaluated, are no modality here.

Which tiles are learned from and tested on is told in ``benchmarks.layout``.

``MMEARTH_PRETRAINING_SEEDS`` says how many seeds, ``MMEARTH_PRETRAINING_STEPS`` how many steps of
pretraining, ``MMEARTH_PRETRAINING_TUNING`` how many of linear probes and fine-tuning,
``MMEARTH_PRETRAINING_ENCODER`` which encoder, and ``MMEARTH_PRETRAINING_ARMS`` chooses arms, with
commas between. Each arm and seed becomes a line of ``build/pretraining/lines.jsonl``; what has a
line there of the same tiles and numbers is not computed again, and pretraining that was interrupted
goes on. About 100 minutes of one core's time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import ROOT
from benchmarks.common import row
from benchmarks.layout import CROP, TEACHER, lay_out
from mmearth.api import (
    EncoderChoice,
    EvaluateOutputs,
    EvaluateSpec,
    PretrainOutputs,
    PretrainSpec,
    TileLabels,
)
from mmearth.jobs.context import JobContext
from mmearth.jobs.registry import run_job
from mmearth.models.card import CARD_NAME
from mmearth.pretraining.datasets.listing import INDEX
from mmearth.settings import Settings

SEEDS, STEPS, TUNING = 5, 300, 100
LIKE = "landcover-s2-10m"  # whose bands and normalisation the encoders have
ENCODER = "mmearth-atto-p16"
BATCH = 32
LEARNING_RATE = 1e-3  # of so few steps
SHARE = 0.1  # of the labels that is fine-tuned on
OPTICAL, SEVERAL, RANDOM = "optical MAE", "MP-MAE", "random"
# What is to be told, by arm; None is not taught at all.
ARMS: dict[str, list[str] | None] = {
    RANDOM: None,
    OPTICAL: ["sentinel-2"],
    SEVERAL: ["sentinel-2", "infrared", "atmosphere"],
}
TOLD = {"linear": "linear probe", "tuned": f"fine-tuned on {SHARE:.0%}"}
FOLDER = ROOT / "build" / "pretraining"


@dataclass(frozen=True)
class Line:
    """An arm with a seed.

    Attributes:
        arm, seed: what was computed.
        begun: SHA-256 of what it hangs on besides: tiles, encoder, modalities, and how it is
            trained.
        linear, tuned: mIoU over the tiles that are tested on, see ``TOLD``.
        minutes: that it took.
    """

    arm: str
    seed: int
    begun: str
    linear: float
    tuned: float
    minutes: float


@dataclass(frozen=True)
class Budget:
    """Numbers that all arms share, from the environment."""

    encoder: str
    steps: int
    tuning: int

    @classmethod
    def given(cls) -> Budget:
        """Return those of the environment."""
        return cls(
            os.environ.get("MMEARTH_PRETRAINING_ENCODER", ENCODER),
            int(os.environ.get("MMEARTH_PRETRAINING_STEPS", STEPS)),
            int(os.environ.get("MMEARTH_PRETRAINING_TUNING", TUNING)),
        )


def measure(scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    data = Path(os.environ.get("MMEARTH_DATA", "")) / "s2"
    if not (data / INDEX).is_file():
        return [row("not measured, --data names no folder with s2/index.json", np.nan)]
    tiles, budget = lay_out(data, scratch / "tiles"), Budget.given()
    seeds = range(int(os.environ.get("MMEARTH_PRETRAINING_SEEDS", SEEDS)))
    arms = os.environ.get("MMEARTH_PRETRAINING_ARMS", ",".join(ARMS)).split(",")
    begun = {arm: _digest(tiles, arm, budget) for arm in arms}
    known = {(line.arm, line.seed): line for line in _lines() if line.begun == begun.get(line.arm)}
    for seed in seeds:  # seed by seed, so that what is there compares all arms
        for arm in arms:
            if (arm, seed) in known:
                continue
            line = _computed(arm, seed, tiles, begun[arm], budget, scratch)
            print(f"    {arm}, seed {seed}: {line.linear:.4f}, {line.tuned:.4f}", flush=True)
            known[arm, seed] = line
            with (FOLDER / "lines.jsonl").open("a") as file:
                file.write(json.dumps(asdict(line)) + "\n")
    return _table({arm: [known[arm, seed] for seed in seeds] for arm in arms})


def _table(lines: dict[str, list[Line]]) -> list[dict[str, Any]]:
    table = []
    for name, told in TOLD.items():
        values = {
            arm: np.array([getattr(line, name) for line in some]) for arm, some in lines.items()
        }
        for arm, found in values.items():
            table.append(row(f"{told}, {arm}: mIoU (± {_spread(found):.3f})", found.mean()))
        for other in (RANDOM, OPTICAL):
            if SEVERAL in values and other in values:
                gained = values[SEVERAL] - values[other]
                wins = f"{(gained > 0).sum()} of {gained.size}"
                what = f"{told}, {SEVERAL} less {other} (± {_spread(gained):.3f}, more in {wins})"
                table.append(row(what, gained.mean(), "more than 0", gained.mean() > 0))
    return table


def _digest(tiles: Path, arm: str, budget: Budget) -> str:
    """Return what a line hangs on besides its seed, but for the code, as hexadecimal numbers."""
    facts = [LIKE, ARMS[arm], asdict(budget), BATCH, CROP, LEARNING_RATE, SHARE]
    parts = [(tiles / INDEX).read_bytes(), json.dumps(facts).encode()]
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]


def _spread(values: np.ndarray[Any, Any]) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else 0.0


def _lines() -> list[Line]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "lines.jsonl"
    text = path.read_text() if path.exists() else ""
    return [Line(**json.loads(line)) for line in text.splitlines()]


def _computed(arm: str, seed: int, tiles: Path, begun: str, budget: Budget, scratch: Path) -> Line:
    start = time.monotonic()
    settings = Settings(home=FOLDER / "home", threads=torch.get_num_threads())
    modalities = ARMS[arm]
    if modalities is None:  # an encoder for its architecture, whose weights are drawn anew
        model = _pretrained(f"architecture-{begun}", ["sentinel-2"], 0, 1, tiles, budget, settings)
    else:
        name = f"{arm.lower().replace(' ', '-')}-{seed}-{begun}"
        model = _pretrained(name, modalities, seed, budget.steps, tiles, budget, settings)
    choice = EncoderChoice(model=str(model), random=modalities is None, name=arm)
    found = {}
    for key, protocol, share in (("linear", "linear", 1.0), ("tuned", "full", SHARE)):
        spec = EvaluateSpec(
            data=str(tiles),
            labels=TileLabels(suffix=TEACHER),
            encoders=[choice],
            protocols=[protocol],
            shares=[share],
            seeds=1,
            first_seed=seed,
            crop=CROP,
            steps=budget.tuning,
            outputs=EvaluateOutputs(folder=str(scratch / f"{arm} {seed} {key}")),
        )
        result: Any = run_job(spec, JobContext(settings))
        found[key] = result.rows[0].scores["mIoU"]
    return Line(arm, seed, begun, **found, minutes=(time.monotonic() - start) / 60)


def _pretrained(
    name: str,
    modalities: list[str],
    seed: int,
    steps: int,
    tiles: Path,
    budget: Budget,
    settings: Settings,
) -> Path:
    """Return the folder of an encoder, pretrained now if it is not there."""
    folder = FOLDER / "encoders" / name
    if not (folder / CARD_NAME).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        spec = PretrainSpec(
            data=str(tiles),
            like=LIKE,
            modalities=modalities,
            encoder=budget.encoder,
            steps=steps,
            batch=BATCH,
            crop=CROP,
            learning_rate=LEARNING_RATE,
            seed=seed,
            outputs=PretrainOutputs(model=str(folder)),
        )
        run_job(spec, JobContext(settings))
    return folder
