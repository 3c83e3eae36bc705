"""Teach an encoder from images without labels."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmearth import __version__
from mmearth.api import Plan, PretrainResult, PretrainSpec, Problem
from mmearth.errors import InputError, MMEarthError
from mmearth.files import check_space, copy_folder, explained
from mmearth.jobs import mapping
from mmearth.jobs.context import JobContext
from mmearth.jobs.work import Work, taken
from mmearth.models.card import ModelCard
from mmearth.models.registry import build_encoder, find_model
from mmearth.models.store.library import check_identifier
from mmearth.pretraining.modality import Modality
from mmearth.pretraining.registry import build_method, check_dataset, open_dataset, open_held
from mmearth.raster.write import check_writable
from mmearth.settings import Settings

if TYPE_CHECKING:
    from torch import nn

    from mmearth.pretraining.dataset import Dataset
    from mmearth.pretraining.group import Group
    from mmearth.pretraining.method import Pretext
    from mmearth.pretraining.record import Outcome, Recipe

LOG_NAME = "pretraining.jsonl"
READ_SHARE, TRAINED_SHARE = 0.03, 0.98  # of the progress bar
# Bytes of a parameter: in the encoder's file; in two states that are kept, one while the other is
# replaced, each with both means of AdamW, and in the encoder beside them.
STORED_BYTES, KEPT_BYTES = 4, 2 * 3 * 4 + 4


def plan(spec: PretrainSpec, settings: Settings) -> Plan:
    """Say what stands in the way. It is collected, not raised; images are not read."""
    result = Plan()
    try:
        _target(spec, settings)
        like = _like(spec, settings)
        bands = check_dataset(spec, like)
        sensor = like.sensor if like else spec.sensor
        image = Modality(sensor, "continuous", "pixel", len(bands))
        encoder = build_encoder(spec.encoder, in_channels=len(bands))
        _check_room(spec, settings, build_method(encoder, [image], spec))
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
    return result


def run(spec: PretrainSpec, context: JobContext) -> PretrainResult:
    """Teach the encoder, and write it as a model folder with its log and a picture.

    A run that was cancelled or killed goes on where it stopped when the same request comes again.
    Where torchrun has started several processes, they share the work, and the first writes.

    Raises:
        MMEarthError: whatever stands in the way; no model is then left half-written.
    """
    from mmearth.pretraining.group import joined

    with joined() as group:
        if not group.first:
            context = replace(context, report=lambda progress, stage, eta: None)
        return _run(spec, context, group)


def _run(spec: PretrainSpec, context: JobContext, group: Group) -> PretrainResult:
    context.report(0.0, "Reading the images", None)
    context.check_cancelled()
    target = _target(spec, context.settings)
    _check_parts(spec, group)
    like = _like(spec, context.settings)
    data = open_dataset(spec, like)
    held = open_held(spec, like, data)
    pretext, recipe = _prepare(spec, data, context.settings)
    _check_room(spec, context.settings, pretext)
    parts = (pretext, data, held, recipe)
    if not group.first:
        outcome = _fit(spec, context, parts, Path(), group)
        return _result(spec, context, data, outcome)
    facts = spec.model_dump(mode="json", exclude={"outputs", "id", "title", "licence"})
    files = mapping.stamps([*data.files, *(held.files if held else ())])
    name = mapping.digest(__version__, facts, like and like.card_sha256, files)
    folder = context.settings.work_folder / f"pretraining-{name}"
    with taken(target, context.settings), Work(folder, {}) as work:
        _target(spec, context.settings)  # another run may have ended there since
        context.log(work.folder / LOG_NAME)
        outcome = _fit(spec, context, parts, work.folder, group)
        context.report(TRAINED_SHARE, "Writing the encoder", None)
        with explained(target):
            made = work.folder / "model" / target.name
            _write(made, pretext, held or data, data, spec, recipe, outcome)
            shutil.copy2(work.folder / LOG_NAME, made)
            context.check_cancelled()
            copy_folder(made, target)
        work.remove()
    return _result(spec, context, data, outcome)


def _fit(
    spec: PretrainSpec,
    context: JobContext,
    parts: tuple[Pretext, Dataset, Dataset | None, Recipe],
    folder: Path,
    group: Group,
) -> Outcome:
    from mmearth.pretraining.loop import fit
    from mmearth.training.task import Watch

    pretext, data, held, recipe = parts
    watch = Watch(context.report, context.is_cancelled).part(READ_SHARE, TRAINED_SHARE)
    events = Path(spec.outputs.events) if spec.outputs.events else None
    return fit(pretext, data, recipe, folder, watch, held=held, events=events, group=group)


def _write(
    folder: Path,
    pretext: Pretext,
    shown: Dataset,
    data: Dataset,
    spec: PretrainSpec,
    recipe: Recipe,
    outcome: Outcome,
) -> None:
    """Write the model folder, and a picture if the method paints any."""
    from mmearth.pretraining import pictures
    from mmearth.pretraining.drawing import held_back
    from mmearth.pretraining.model import save_encoder
    from mmearth.sensors import load_sensor

    save_encoder(folder, pretext, data, spec, recipe, outcome.rows)
    device = next(pretext.parameters()).device
    count = pictures.COUNT
    (drawn,) = held_back(pretext, shown, images=count, part=count, seed=spec.seed)
    sensor = load_sensor(data.sensor)
    wavelengths = [sensor.band(band).wavelength_nm for band in data.bands]
    batch = {name: value.to(device) for name, value in drawn.items()}
    picture = pretext.picture(batch, wavelengths)
    if picture is not None:
        pictures.save(picture, folder / pictures.PICTURE_NAME)


def _result(
    spec: PretrainSpec, context: JobContext, data: Dataset, outcome: Outcome
) -> PretrainResult:
    rows = outcome.rows
    return PretrainResult(
        outputs=spec.outputs,
        model=spec.id or Path(spec.outputs.model).name,
        tiles=len(data),
        steps=rows[-1].step,
        losses=rows[-1].losses,
        first_losses=rows[0].losses,
        held_losses=rows[-1].held,
        warnings=[*data.warnings, *outcome.warnings],
        seconds=context.elapsed(),
    )


def _prepare(spec: PretrainSpec, data: Dataset, settings: Settings) -> tuple[Pretext, Recipe]:
    """Build the network with weights that hang on the seed alone, and the numbers of the run."""
    import torch

    from mmearth.models.network import choose_device
    from mmearth.pretraining.record import Recipe
    from mmearth.training.tune import faster_in_bfloat16

    torch.set_num_threads(settings.cpu_threads)
    torch.manual_seed(spec.seed)
    device = choose_device(settings)
    encoder = build_encoder(spec.encoder, in_channels=len(data.bands))
    pretext = build_method(encoder, data.modalities, spec, len(data))
    pretext.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = Recipe(
        steps=spec.steps,
        batch=spec.batch,
        learning_rate=spec.learning_rate or pretext.optimisation.highest(spec.batch),
        accumulate=spec.accumulate,
        mixed=faster_in_bfloat16(device),
        seed=spec.seed,
    )
    return pretext, recipe


def _like(spec: PretrainSpec, settings: Settings) -> ModelCard | None:
    return find_model(spec.like, settings.model_folders) if spec.like else None


def _target(spec: PretrainSpec, settings: Settings) -> Path:
    """Return the folder of the result.

    Raises:
        InputError: if something would be lost, or a path is no full one; if images cannot be shared
            out among the parts of a step.
        MissingExtraError: if files of TensorBoard are wanted, and nothing can write them.
        ModelError: if its name is none for a model.
        OutputError: if it cannot be written.
    """
    from mmearth.pretraining.events import require_tensorboard
    from mmearth.pretraining.group import ALONE

    folder = Path(spec.outputs.model)
    for path in filter(None, (spec.outputs.model, spec.outputs.events)):
        if not Path(path).is_absolute():
            raise InputError(f"{path} is no full path.", "Give the whole path of the result.")
    check_identifier(spec.id or folder.name, settings)
    if folder.is_dir() and any(folder.iterdir()):
        # Days of computing may lie there.
        raise InputError(
            f"The folder {folder} holds files already, an earlier encoder perhaps.",
            "Choose a folder that is empty or does not exist yet.",
        )
    if spec.outputs.events:
        require_tensorboard()
    _check_parts(spec, ALONE)
    check_writable([folder.with_name(f".{folder.name}")], 0)
    return folder


def _check_parts(spec: PretrainSpec, group: Group) -> None:
    parts = spec.accumulate * group.size
    if spec.batch % parts:
        among = f" for each of {group.size} processes" if group.size > 1 else ""
        raise InputError(
            f"{spec.batch} images of a step cannot be computed in {spec.accumulate} equal parts"
            f"{among}.",
            f"Choose a multiple of {parts} as their number.",
        )


def _check_room(spec: PretrainSpec, settings: Settings, pretext: nn.Module) -> None:
    """Check that there is room for the encoder, and for all that is kept on the way.

    Raises:
        DiskFullError: if there is not.
    """
    size = sum(part.numel() for part in pretext.parameters())
    check_space(Path(spec.outputs.model).parent, STORED_BYTES * size)
    settings.work_folder.mkdir(parents=True, exist_ok=True)
    check_space(settings.work_folder, KEPT_BYTES * size)
