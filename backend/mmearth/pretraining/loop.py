"""The loop of pretraining: steps, what is kept of them, and when to give up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmearth.api import Problem
from mmearth.errors import JobCancelled, OutputError, TrainingError, listed
from mmearth.files import explained
from mmearth.models.network import memory_explained
from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.drawing import Drawing, held_back, threads
from mmearth.pretraining.events import Events
from mmearth.pretraining.group import ALONE, Group
from mmearth.pretraining.method import Pretext, Step
from mmearth.pretraining.record import Outcome, Recipe, Row, Stretch, line
from mmearth.training import checkpoint
from mmearth.training.task import Watch

LOG_NAME = "pretraining.jsonl"
COLLAPSED = 1e-3  # spread below which all images look alike
COLLAPSED_ROWS = 3  # of the log, one after another


def fit(
    pretext: Pretext,
    data: Dataset,
    recipe: Recipe,
    folder: Path,
    watch: Watch,
    *,
    held: Dataset | None = None,
    events: Path | None = None,
    group: Group = ALONE,
) -> Outcome:
    """Teach an encoder, or go on where an earlier run ended.

    Everything random is drawn anew for each image from the numbers of its step and its own, so a
    run that goes on ends with the weights of one that was never interrupted: to the bit on the same
    processor with as many threads, otherwise to rounding, which is then said.

    Args:
        pretext: on the device to compute on.
        data: what is learned from.
        recipe: numbers of the run.
        folder: of unfinished work; the log is written there too, as lines of JSON.
        watch: told of every step.
        held: what is compared on and never learned from.
        events: folder for files of TensorBoard.
        group: processes that share the work; only the first writes.

    Raises:
        TrainingError: if the loss is no number any more, or images are told apart no more.
        JobCancelled: if ``watch`` says so; the same run can then go on later.
        OutOfMemoryError: if the device's memory does not suffice.
        OutputError: if the log cannot be written.
        MissingExtraError: if files of TensorBoard are wanted, and nothing can write them.
    """
    device = next(pretext.parameters()).device
    with (
        threads() as pool,
        memory_explained(device),
        contextlib.closing(_Run(pretext, data, recipe, folder, group, pool)) as run,
    ):
        run.restore()
        run.prepare(held, events)
        begun, start = time.monotonic(), run.done
        kept = begun
        while run.done < recipe.steps:
            if group.any(watch.cancelled()):
                if run.done > start:
                    run.keep()  # what was computed is not lost, should the user come back
                raise JobCancelled("Cancelled.")
            run.step()
            now = time.monotonic()
            if now - kept >= recipe.keep or run.done == recipe.steps:
                run.try_to_keep()
                kept = now
            each = (now - begun) / (run.done - start)
            watch.report(run.done / recipe.steps, run.stage, each * (recipe.steps - run.done))
    pretext.eval()
    return Outcome(run.rows, run.warnings)


class _Run:
    """Network, optimiser and log of a run."""

    def __init__(
        self,
        pretext: Pretext,
        data: Dataset,
        recipe: Recipe,
        folder: Path,
        group: Group,
        pool: Executor,
    ) -> None:
        self.rows: list[Row] = []
        self.warnings: list[Problem] = []
        self.done = 0
        self._pretext, self._recipe, self._group = pretext.train(), recipe, group
        self._device = next(pretext.parameters()).device
        self._folder, self._log = folder, folder / LOG_NAME
        self._stretch = self._begun()
        self._trained = [part for part in pretext.parameters() if part.requires_grad]
        self._optimisation = pretext.optimisation
        self._optimizer = self._optimisation.build(pretext, recipe.learning_rate)
        self._drawing = Drawing(
            pretext,
            data,
            batch=recipe.batch,
            parts=recipe.accumulate,
            seed=recipe.seed,
            group=group,
            device=self._device,
            pool=pool,
        )
        self._network: nn.Module = pretext
        self._held: list[Any] = []
        self._events: Events | None = None

    @property
    def stage(self) -> str:
        """Where the run stands, in words."""
        text = f"Step {self.done:,} of {self._recipe.steps:,}"
        losses = self.rows[-1].losses if self.rows else {}
        if not losses:
            return text
        return f"{text}: error {', '.join(f'{k} {v:.3f}' for k, v in losses.items())}"

    def prepare(self, held: Dataset | None, events: Path | None) -> None:
        """Get ready for the first step; the state is restored already."""
        recipe, group = self._recipe, self._group
        if group.size > 1:
            cards = [self._device] if self._device.type == "cuda" else None
            # Which parts take part hangs on what is known of the images of a step.
            self._network = DistributedDataParallel(
                self._pretext, device_ids=cards, find_unused_parameters=True
            )
        if not group.first:
            return
        if held is not None:
            part = recipe.batch // recipe.accumulate // group.size
            self._held = held_back(
                self._pretext, held, images=recipe.held, part=part, seed=recipe.seed
            )
        if events:
            self._events = Events(events, self.done)

    def close(self) -> None:
        """Close what is open."""
        if self._events:
            self._events.close()

    def step(self) -> None:
        """Do a step of the optimiser.

        Raises:
            TrainingError: see ``fit``.
        """
        recipe = self._recipe
        self._optimisation.prepare(self._optimizer, recipe.learning_rate, self.done, recipe.steps)
        self._pretext.begin(self.done, recipe.steps)
        self._optimizer.zero_grad(set_to_none=True)
        steps = self._computed(self._drawing.step(self.done, last=self.done + 1 == recipe.steps))
        moved = [part for part in self._trained if part.grad is not None]
        norm = nn.utils.get_total_norm([part.grad for part in moved if part.grad is not None])
        total = torch.stack([step.total for step in steps]).sum()
        if not torch.stack([norm, total]).isfinite().all().item():
            raise TrainingError(
                f"The training went astray in step {self.done + 1:,}: its error is no longer a "
                "number.",
                "Try again with a lower learning rate, and check that the images have no extreme "
                "values.",
            )
        if self._optimisation.clip is not None:
            nn.utils.clip_grads_with_norm_(moved, self._optimisation.clip, norm)
        self._optimizer.step()
        self._pretext.advance(self._group)
        self.done += 1
        losses = torch.stack([step.losses for step in steps]).sum(dim=0)
        counts = torch.stack([step.counts for step in steps]).sum(dim=0)
        stretch = self._stretch
        stretch.steps += 1
        stretch.sums += self._group.add(torch.cat([total[None], losses]))
        stretch.known += self._group.add(counts) > 0
        stretch.gradient += norm
        if self.done % recipe.every == 0 or self.done == recipe.steps:
            self._write_row(torch.cat([step.features for step in steps]))

    def keep(self) -> None:
        """Keep all that the next step depends on.

        Raises:
            OutputError: if it cannot be written.
        """
        if not self._group.first:
            return
        with explained(self._folder):
            checkpoint.write(
                self._folder,
                {
                    "network": self._pretext.state_dict(),
                    "optimizer": self._optimizer.state_dict(),
                    "done": self.done,
                    "rows": [vars(row) for row in self.rows],
                    "stretch": vars(self._stretch),
                    "place": self._place(),
                },
            )

    def try_to_keep(self) -> None:
        """Keep the same; where that fails the run goes on, with a warning."""
        try:
            self.keep()
        except OutputError as error:
            self._warn("unkept", f"The run could not be kept to go on from: {error.message}")

    def restore(self) -> None:
        """Go on from what ``keep`` has kept; the log is cut off where that was.

        A state that is damaged, or belongs to another network, is left aside with a warning: the
        run then begins anew.
        """
        first = self._group.first
        state = checkpoint.read(self._folder, torch.device("cpu")) if first else None
        if first and state is None and (self._folder / checkpoint.NAME).exists():
            self._warn("anew", "What an earlier run had kept is damaged; this one begins anew.")
        if state is not None and not _belongs(state, self._pretext):
            self._warn("anew", "What an earlier run had kept does not fit; this one begins anew.")
            state = None
        state = self._group.share(state)
        if state is not None:
            self._pretext.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.done = state["done"]
            self.rows = [Row(**row) for row in state["rows"]]
            self._stretch = Stretch(**state["stretch"]).on(self._device)
            self._compare(state.get("place", {}))
        if first:
            with explained(self._log):
                self._log.parent.mkdir(parents=True, exist_ok=True)
                self._log.write_text("".join(line(row) for row in self.rows), "utf-8")

    def _place(self) -> dict[str, Any]:
        """Return all that the last digits of weights hang on."""
        return {
            "device": self._device.type,
            "bfloat16": self._recipe.mixed,
            "threads": torch.get_num_threads(),
            "processes": self._group.size,
            "torch": torch.__version__.partition("+")[0],
        }

    def _compare(self, before: dict[str, Any]) -> None:
        changed = [
            f"{name} was {before.get(name)}, is {now}"
            for name, now in self._place().items()
            if before.get(name) != now
        ]
        if changed:
            self._warn(
                "resumed",
                f"The run goes on elsewhere than it began ({listed(changed)}): its weights differ "
                "in their last digits from those of one that was not interrupted.",
            )

    def _warn(self, code: str, message: str) -> None:
        if all(one.code != code for one in self.warnings):
            self.warnings.append(Problem(code=code, message=message))

    def _computed(self, parts: list[Any]) -> list[Step]:
        """Compute the parts of a step's images, and add their gradients up."""
        group = self._group
        whole = None
        if len(parts) * group.size > 1:
            counts = [self._pretext.counts(part) for part in parts]
            whole = group.add(torch.stack(counts).sum(dim=0))
        steps = []
        for number, part in enumerate(parts):
            # Of the network's own dropout.
            torch.manual_seed(hash((self._recipe.seed, self.done, number, group.rank)))
            with (
                self._together(number + 1 == len(parts)),
                torch.autocast(self._device.type, torch.bfloat16, self._recipe.mixed),
            ):
                step: Step = self._network(part, whole)
                # Processes take the mean of their gradients; parts of a whole are added up.
                (step.total * group.size).backward()
            steps.append(Step(step.total.detach(), step.losses, step.counts, step.features))
        return steps

    @contextlib.contextmanager
    def _together(self, last: bool) -> Iterator[None]:
        """Let the processes exchange gradients in the last part of a step only."""
        if last or not isinstance(self._network, DistributedDataParallel):
            yield
        else:
            with self._network.no_sync():
                yield

    def _begun(self) -> Stretch:
        tasks = len(self._pretext.tasks)
        return Stretch(
            steps=0,
            sums=torch.zeros(1 + tasks, device=self._device),
            known=torch.zeros(tasks, device=self._device),
            gradient=torch.zeros((), device=self._device),
        )

    def _write_row(self, features: torch.Tensor) -> None:
        stretch, self._stretch = self._stretch, self._begun()
        total, *sums = stretch.sums.tolist()
        found = zip(self._pretext.tasks, sums, stretch.known.tolist(), strict=True)
        row = Row(
            step=self.done,
            loss=total / stretch.steps,
            losses={name: value / known for name, value, known in found if known},
            held=self._held_losses(),
            spread=self._pretext.spread(self._group.gather(features)),
            gradient=float(stretch.gradient) / stretch.steps,
            learning_rate=self._optimizer.param_groups[0]["lr"],
        )
        self.rows.append(row)
        if self._group.first:
            with explained(self._log), self._log.open("a", encoding="utf-8") as file:
                file.write(line(row))
        if self._events:
            self._events.write(row)
        last = self.rows[-COLLAPSED_ROWS:]
        if len(last) == COLLAPSED_ROWS and all(one.spread < COLLAPSED for one in last):
            raise TrainingError(
                f"The training collapsed by step {self.done:,}: to the network, all images look "
                "alike.",
                "Try again with a lower learning rate, more images in a batch or more varied ones.",
            )

    @torch.no_grad()
    def _held_losses(self) -> dict[str, float]:
        """Compute each task's loss on the images that are held back."""
        if not self._held:
            return {}
        counts = torch.stack([self._pretext.counts(part) for part in self._held]).sum(dim=0)
        whole = counts.to(self._device)
        self._pretext.eval()
        losses = torch.zeros(len(whole), device=self._device)
        for part in self._held:
            batch = {name: value.to(self._device) for name, value in part.items()}
            with torch.autocast(self._device.type, torch.bfloat16, self._recipe.mixed):
                losses += self._pretext(batch, whole).losses
        self._pretext.train()
        found = zip(self._pretext.tasks, losses.tolist(), whole.tolist(), strict=True)
        return {name: value for name, value, count in found if count}


def _belongs(state: dict[str, Any], pretext: Pretext) -> bool:
    """Tell whether what was kept has the shapes of a network."""
    kept, own = state.get("network", {}), pretext.state_dict()
    return {name: value.shape for name, value in kept.items()} == {
        name: value.shape for name, value in own.items()
    }
