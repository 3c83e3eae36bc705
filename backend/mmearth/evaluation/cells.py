"""The cells of an evaluation: one encoder, protocol, share of the labels and seed each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from mmearth.api import EvaluateSpec, EvaluationProtocol, EvaluationRow, Problem
from mmearth.errors import InputError
from mmearth.evaluation.descent import Curve
from mmearth.evaluation.encoders import Candidate
from mmearth.evaluation.frozen import Features, features_of, linear_probe, nearest_neighbours
from mmearth.evaluation.tiles import Part, Tiles, read_parts, share_of
from mmearth.evaluation.tuned import tune
from mmearth.models.network import Normaliser

# Highest learning rate of each protocol that learns; those of tuning as ``training.tune``.
RATES: dict[EvaluationProtocol, float] = {
    "linear": 1e-2, "frozen": 2e-3, "adapter": 2e-3, "full": 1e-3,
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """What is computed by itself.

    Attributes:
        encoder: name of the candidate.
        protocol: name.
        share: of the training tiles.
        seed: of everything that is drawn at random.
    """

    encoder: str
    protocol: EvaluationProtocol
    share: float
    seed: int


@dataclass(frozen=True)
class Finished:
    """A cell and what came of it.

    Attributes:
        cell: what was computed.
        images: learned from.
        trained: parameters that were trained.
        steps: at which scores were computed, rising; 0 alone of a protocol without steps.
        scores: of each.
    """

    cell: Cell
    images: int
    trained: int
    steps: tuple[int, ...]
    scores: tuple[dict[str, float], ...]


def cells_of(spec: EvaluateSpec, candidates: Sequence[Candidate]) -> list[Cell]:
    """Return all cells of a request, those of one encoder after the other."""
    seeds = range(spec.first_seed, spec.first_seed + spec.seeds)
    return [
        Cell(one.name, protocol, share, seed)
        for one in candidates
        for seed in seeds
        for protocol in dict.fromkeys(spec.protocols)
        for share in sorted(set(spec.shares))
    ]


class Evaluation:
    """Computes cells; images are read once for all encoders of the same sensor and bands.

    Args:
        spec: the request.
        tiles: of both parts.
        device: to compute on.
        cancelled: asked time and again.
    """

    def __init__(
        self,
        spec: EvaluateSpec,
        tiles: Tiles,
        device: torch.device,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.warnings: list[Problem] = []
        self._spec, self._tiles, self._device, self._cancelled = spec, tiles, device, cancelled
        self._shown: tuple[str, tuple[str, ...]] | None = None
        self._parts: tuple[Part, Part] | None = None
        self._known: tuple[object, Features, Features] | None = None

    def compute(self, candidate: Candidate, cell: Cell) -> Finished:
        """Compute a cell.

        Raises:
            InputError: if the crop does not suit the encoder, or images are wanting.
            JobCancelled: if ``cancelled`` says so.
            ModelError: if the encoder cannot be built.
            TrainingError: if learning diverges.
        """
        spec, kind, classes = self._spec, self._tiles.kind, len(self._tiles.classes)
        check_crop(spec.crop, candidate)
        whole, test = self._read(candidate)
        train = share_of(whole, cell.share, classes, kind, cell.seed)
        rate = spec.learning_rate or RATES.get(cell.protocol, 0.0)
        if cell.protocol in ("knn", "linear"):
            known, asked = self._features(candidate, cell.seed)
            known = known.chosen(train, np.flatnonzero(np.isin(whole.tiles, train.tiles)))
            if cell.protocol == "knn":
                scores = nearest_neighbours(known, asked, kind, classes, spec.neighbours, cell.seed)
                return Finished(cell, len(train), 0, (0,), (scores,))
            curve, trained = linear_probe(
                known, asked, kind, classes, steps=spec.steps, learning_rate=rate,
                seed=cell.seed, cancelled=self._cancelled,
            )  # fmt: skip
        else:
            curve, trained = self._tuned(candidate, cell, train, test, rate)
        return Finished(cell, len(train), trained, curve.steps, curve.scores)

    def _tuned(
        self, candidate: Candidate, cell: Cell, train: Part, test: Part, rate: float
    ) -> tuple[Curve, int]:
        network = candidate.network(self._tiles.kind, len(self._tiles.classes), cell.seed)
        return tune(
            network.to(self._device),
            self._normaliser(candidate),
            cell.protocol,
            train,
            test,
            self._tiles.kind,
            steps=self._spec.steps,
            batch=self._spec.batch,
            learning_rate=rate,
            seed=cell.seed,
            cancelled=self._cancelled,
        )

    def _read(self, candidate: Candidate) -> tuple[Part, Part]:
        card = candidate.card
        shown = (card.sensor, card.bands)  # names of bands may be those of several sensors
        if self._parts is None or self._shown != shown:
            train, test, warnings = read_parts(
                self._tiles, card.bands, card.sensor, self._spec.crop
            )
            self.warnings += [one for one in warnings if one not in self.warnings]
            self._parts, self._shown = (train, test), shown
            self._known = None
        return self._parts

    def _features(self, candidate: Candidate, seed: int) -> tuple[Features, Features]:
        """Return features of both parts; those of the last encoder are kept."""
        key = candidate.name, seed if candidate.random else None
        if self._known is None or self._known[0] != key:
            encoder = candidate.encoder(seed).to(self._device)
            both = [
                features_of(
                    encoder,
                    self._normaliser(candidate),
                    part,
                    self._tiles.kind,
                    len(self._tiles.classes),
                    cancelled=self._cancelled,
                )
                for part in self._read(candidate)
            ]
            self._known = key, both[0], both[1]
        return self._known[1], self._known[2]

    def _normaliser(self, candidate: Candidate) -> Normaliser:
        return Normaliser(candidate.card.normalisation).to(self._device)


def check_crop(crop: int, candidate: Candidate) -> None:
    """Check that an encoder reads images of a size.

    Raises:
        InputError: if it does not.
    """
    stride = candidate.card.stride
    if crop % stride:
        raise InputError(
            f"Images of {crop} pixels do not suit {candidate.name}.",
            f"Choose a multiple of {stride} as their side.",
        )


def read_finished(path: Path) -> dict[Cell, Finished]:
    """Read the cells that an earlier run has finished; a line that was cut off is left out."""
    found = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            facts = json.loads(line)
        except ValueError:
            continue
        cell = Cell(**facts.pop("cell"))
        found[cell] = Finished(
            cell, facts["images"], facts["trained"], tuple(facts["steps"]), tuple(facts["scores"])
        )
    return found


def keep(path: Path, finished: Finished) -> None:
    """Keep a finished cell, on a line of its own even after one that was cut off."""
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("" if whole else "\n")
        file.write(json.dumps(asdict(finished)) + "\n")


def summed_up(finished: Sequence[Finished]) -> list[EvaluationRow]:
    """Return mean and spread over the seeds of each encoder, protocol and share, in order."""
    groups: dict[tuple[str, EvaluationProtocol, float], list[Finished]] = {}
    for one in finished:
        key = one.cell.encoder, one.cell.protocol, one.cell.share
        groups.setdefault(key, []).append(one)
    rows = []
    for (encoder, protocol, share), members in groups.items():
        values = {
            name: [member.scores[-1][name] for member in members] for name in members[0].scores[-1]
        }
        rows.append(
            EvaluationRow(
                encoder=encoder,
                protocol=protocol,
                share=share,
                images=round(np.mean([member.images for member in members])),
                trained=members[0].trained,
                scores={name: float(np.mean(given)) for name, given in values.items()},
                spreads={
                    name: float(np.std(given, ddof=1)) if len(given) > 1 else 0.0
                    for name, given in values.items()
                },
            )
        )
    return rows
