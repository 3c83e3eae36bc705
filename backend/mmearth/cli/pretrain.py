"""``mmearth pretrain``: teach an encoder from images without labels."""

from __future__ import annotations

import argparse
import contextlib
import os

from mmearth.api import PretrainOutputs, PretrainResult, PretrainSpec
from mmearth.cli.mapping import full_path, plan_or_run
from mmearth.errors import InputError

DEFAULTS = PretrainSpec.model_fields


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    pretrain = commands.add_parser("pretrain", help="teach an encoder from images without labels")
    pretrain.add_argument("--data", required=True, metavar="FOLDER", help="folder of the images")
    pretrain.add_argument("--output", required=True, metavar="FOLDER", help="of the encoder")
    pretrain.add_argument("--plan", action="store_true", help="only say what stands in the way")
    for name, words in (
        ("dataset", "tiles, mmearth-h5, ssl4eo-s12, ssl4eo-eu-forest or spectral-earth"),
        ("sensor", "of the images"),
        ("method", "pretext method"),
        ("encoder", "name of the encoder"),
        ("title", "of the encoder"),
        ("licence", "of the encoder"),
        ("attribution", "whom the images are owed to"),
    ):
        pretrain.add_argument(f"--{name}", default=DEFAULTS[name].default, help=_help(name, words))
    pretrain.add_argument(
        "--split", help="part of the data set, '' for all of it; default: train, if it has parts"
    )
    pretrain.add_argument("--id", help="of the encoder; default: the folder's name")
    pretrain.add_argument(
        "--like", metavar="MODEL", help="installed model whose bands and normalisation are taken"
    )
    pretrain.add_argument("--bands", default="", help="names of bands, with commas between them")
    pretrain.add_argument(
        "--modalities",
        default="",
        help="what is to be predicted, with commas between; default: the image, where it lies and "
        "what the data set lists, maps too; the sensor's name alone predicts the image only",
    )
    for name, words in (
        ("steps", "steps of the optimiser"),
        ("batch", "images of a step"),
        ("accumulate", "parts that a step is computed in, to save memory"),
        ("crop", "side of a crop in pixels; a multiple of the patch"),
        ("seed", "of all that is drawn at random"),
    ):
        default = DEFAULTS[name.replace("-", "_")].default
        pretrain.add_argument(f"--{name}", type=int, default=default, help=_help(name, words))
    pretrain.add_argument(
        "--learning-rate",
        type=float,
        help="its highest value; default: what is published for the method, less for fewer images "
        "of a step",
    )
    pretrain.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the method, mask_ratio=0.75 for example; repeatable; with a wrong name, it is "
        "said which there are",
    )
    pretrain.add_argument(
        "--tensorboard", metavar="FOLDER", help="write files of TensorBoard there, as it goes"
    )
    pretrain.set_defaults(run=_pretrain)


def _help(name: str, words: str) -> str:
    default = DEFAULTS[name.replace("-", "_")].default
    return f"{words}; default: {default}" if default not in ("", None) else words


def _pretrain(options: argparse.Namespace) -> int:
    names = set(PretrainSpec.model_fields) - {
        "kind",
        "data",
        "bands",
        "modalities",
        "options",
        "outputs",
    }
    spec = PretrainSpec(
        data=str(full_path(options.data)),
        bands=_listed(options.bands),
        modalities=_listed(options.modalities),
        options=dict(_option(text) for text in options.option),
        outputs=PretrainOutputs(
            model=str(full_path(options.output)), events=full_path(options.tensorboard)
        ),
        **{name: getattr(options, name) for name in names},
    )
    others = int(os.environ.get("RANK", "0")) > 0  # started by torchrun: the first one speaks
    with contextlib.redirect_stdout(None) if others else contextlib.nullcontext():
        return plan_or_run(spec, _show, only_plan=options.plan, keeps=True)


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--option: expected NAME=VALUE, found {text!r}.")
    return name.replace("-", "_"), value


def _show(result: PretrainResult) -> None:
    print(f"{result.steps:,} steps on {result.tiles:,} images in {result.seconds:,.0f} s")
    for name, loss in result.losses.items():
        before = result.first_losses.get(name)
        held = result.held_losses.get(name)
        said = "" if before is None else f", at first {before:.3f}"
        said += "" if held is None else f"; on images held back {held:.3f}"
        print(f"{name}: error {loss:.3f}{said}")
    print("To build on it: mmearth models import FOLDER, then mmearth finetune --model")
