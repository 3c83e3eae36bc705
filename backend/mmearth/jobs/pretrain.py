"""Teach an encoder from images without labels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mmearth import __version__
from mmearth.api import Plan, PretrainResult, PretrainSpec, Problem
from mmearth.errors import InputError, MMEarthError
from mmearth.files import copy_folder, explained
from mmearth.jobs import mapping
from mmearth.jobs.context import JobContext
from mmearth.jobs.work import Work
from mmearth.models.card import CARD_NAME, WEIGHTS_NAME, ModelCard
from mmearth.models.readme import README_NAME
from mmearth.models.registry import build_encoder, find_model
from mmearth.models.store.library import check_identifier
from mmearth.pretraining.modality import Modality
from mmearth.pretraining.registry import build_method, check_dataset, open_dataset
from mmearth.raster.write import check_writable
from mmearth.settings import Settings

if TYPE_CHECKING:
    from mmearth.pretraining.dataset import Dataset
    from mmearth.pretraining.loop import Recipe
    from mmearth.pretraining.method import Pretext

LOG_NAME, PICTURE_NAME = "pretraining.jsonl", "reconstruction.png"
MODEL_FILES = {CARD_NAME, README_NAME, WEIGHTS_NAME, LOG_NAME, PICTURE_NAME}
READ_SHARE, TRAINED_SHARE = 0.03, 0.98  # of the progress bar
ENCODER_BYTES = 2**26  # of a folder, generously


def plan(spec: PretrainSpec, settings: Settings) -> Plan:
    """Say what stands in the way. It is collected, not raised; images are not read."""
    result = Plan()
    try:
        _target(spec, settings)
        bands = check_dataset(spec, _like(spec, settings))
        image = Modality(spec.sensor, "continuous", "pixel", len(bands))
        build_method(build_encoder(spec.encoder, in_channels=len(bands)), [image], spec)
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
    return result


def run(spec: PretrainSpec, context: JobContext) -> PretrainResult:
    """Teach the encoder, and write it as a model folder with its log and a picture.

    A run that was cancelled or killed goes on where it stopped when the same request comes again.

    Raises:
        MMEarthError: whatever stands in the way; no model is then left half-written.
    """
    context.report(0.0, "Reading the images", None)
    context.check_cancelled()
    target = _target(spec, context.settings)
    like = _like(spec, context.settings)
    data = open_dataset(spec, like)
    facts = spec.model_dump(mode="json", exclude={"outputs", "id", "title", "licence"})
    name = mapping.digest(__version__, facts, like and like.card_sha256, mapping.stamps(data.files))
    from mmearth.pretraining.loop import fit
    from mmearth.pretraining.model import save_encoder
    from mmearth.training.task import Watch

    with Work(context.settings.work_folder / f"pretraining-{name}", {}) as work:
        pretext, recipe = _prepare(spec, data, context.settings)
        watch = Watch(context.report, context.is_cancelled).part(READ_SHARE, TRAINED_SHARE)
        context.log(work.folder / LOG_NAME)
        rows = fit(pretext, data, recipe, work.folder, watch)
        context.report(TRAINED_SHARE, "Writing the encoder", None)
        with explained(target):
            made = work.folder / "model" / target.name
            card = save_encoder(made, pretext, data, spec, recipe, rows)
            shutil.copy2(work.folder / LOG_NAME, made / LOG_NAME)
            _picture(made / PICTURE_NAME, pretext, data, spec)
            context.check_cancelled()
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_folder(made, target)
        work.remove()
    return PretrainResult(
        outputs=spec.outputs,
        model=card.id,
        tiles=len(data),
        steps=rows[-1].step,
        losses=rows[-1].losses,
        first_losses=rows[0].losses,
        warnings=data.warnings,
        seconds=context.elapsed(),
    )


def _prepare(spec: PretrainSpec, data: Dataset, settings: Settings) -> tuple[Pretext, Recipe]:
    """Build the network with weights that hang on the seed alone, and the numbers of the run."""
    import torch

    from mmearth.models.network import choose_device
    from mmearth.pretraining.loop import Recipe
    from mmearth.training.tune import faster_in_bfloat16

    torch.set_num_threads(settings.cpu_threads)
    torch.manual_seed(spec.seed)
    device = choose_device(settings)
    encoder = build_encoder(spec.encoder, in_channels=len(data.bands))
    pretext = build_method(encoder, data.modalities, spec)
    pretext.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = Recipe(
        steps=spec.steps,
        batch=spec.batch,
        learning_rate=spec.learning_rate,
        accumulate=spec.accumulate,
        mixed=faster_in_bfloat16(device),
        seed=spec.seed,
    )
    return pretext, recipe


def _picture(path: Path, pretext: Pretext, data: Dataset, spec: PretrainSpec) -> None:
    """Show what has become of the images, if the method paints any."""
    import numpy as np

    from mmearth.pretraining import pictures
    from mmearth.pretraining.mpmae import MPMAE
    from mmearth.sensors import load_sensor

    if not isinstance(pretext, MPMAE):
        return
    device = next(pretext.parameters()).device
    drawn = data.draw(pictures.COUNT, np.random.default_rng(spec.seed))
    batch = {name: value.to(device) for name, value in drawn.items()}
    sensor = load_sensor(data.sensor)
    wavelengths = [sensor.band(band).wavelength_nm for band in data.bands]
    pictures.save(pictures.reconstruction(pretext, batch, wavelengths, spec.seed), path)


def _like(spec: PretrainSpec, settings: Settings) -> ModelCard | None:
    return find_model(spec.like, settings.model_folders) if spec.like else None


def _target(spec: PretrainSpec, settings: Settings) -> Path:
    """Return the folder of the result.

    Raises:
        InputError: if something would be lost, or it is no full path; if images cannot be shared
            out among the parts of a step.
        ModelError: if its name is none for a model.
        OutputError: if it cannot be written.
    """
    folder = Path(spec.outputs.model)
    if not folder.is_absolute():
        raise InputError(f"{folder} is no full path.", "Give the whole path of the result.")
    check_identifier(spec.id or folder.name, settings)
    if folder.is_dir() and not set(folder.iterdir()) <= {folder / name for name in MODEL_FILES}:
        raise InputError(
            f"The folder {folder} holds other files than an encoder's.",
            "Choose a folder that is empty or does not exist yet.",
        )
    if spec.batch % spec.accumulate:
        raise InputError(
            f"{spec.batch} images of a step cannot be computed in {spec.accumulate} equal parts.",
            f"Choose a multiple of {spec.accumulate} as their number.",
        )
    check_writable([folder.with_name(f".{folder.name}")], ENCODER_BYTES)
    return folder
