"""``mmearth evaluate``: how good the features of encoders are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from mmearth.api import EncoderChoice, EvaluateOutputs, EvaluateResult, EvaluateSpec, TileLabels
from mmearth.api.evaluate import EvaluationProtocol
from mmearth.cli.mapping import full_path, plan_or_run
from mmearth.errors import InputError

DEFAULTS = EvaluateSpec.model_fields


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    evaluate = commands.add_parser(
        "evaluate", help="how good the features of encoders are, on labelled tiles"
    )
    evaluate.add_argument(
        "--data", required=True, metavar="FOLDER", help="of the tiles and their index.json"
    )
    evaluate.add_argument("--output", required=True, metavar="FOLDER", help="of the results")
    for name, words in (
        ("encoder", "installed model or folder of one; repeatable; NAME=MODEL names it"),
        ("random", "the same with weights drawn at random; repeatable"),
    ):
        evaluate.add_argument(
            f"--{name}", action="append", default=[], metavar="[NAME=]MODEL", help=words
        )
    labels = evaluate.add_mutually_exclusive_group(required=True)
    labels.add_argument(
        "--field", help="of index.json that holds a label of each tile, or a list of them"
    )
    labels.add_argument(
        "--labels", metavar="ENDING", help="of the label rasters beside the tiles: .label.tif"
    )
    evaluate.add_argument(
        "--codes", type=int, nargs="+", default=[], help="of classes; default: all in the rasters"
    )
    evaluate.add_argument(
        "--nodata", type=int, help="code of no label, beside the one that the rasters state"
    )
    evaluate.add_argument(
        "--protocols", default="knn,linear",
        help=f"with commas between: {', '.join(get_args(EvaluationProtocol))}; default: knn,linear",
    )  # fmt: skip
    evaluate.add_argument(
        "--shares", default="1",
        help="of the training tiles, with commas between, such as 0.01,0.1,1; default: 1",
    )  # fmt: skip
    for name, words in (
        ("seeds", "how often everything is repeated"),
        ("first-seed", "the first of the seeds"),
        ("crop", "side of the images in pixels"),
        ("neighbours", "of the protocol knn"),
        ("steps", "of the optimiser"),
        ("batch", "images of a step"),
    ):
        default = DEFAULTS[name.replace("-", "_")].default
        evaluate.add_argument(
            f"--{name}", type=int, default=default, help=f"{words}; default: {default}"
        )
    evaluate.add_argument(
        "--learning-rate", type=float, help="its highest value; default: by protocol"
    )
    evaluate.add_argument("--train", default="train", help="part that is learned from")
    evaluate.add_argument("--test", default="val", help="part that is tested on; default: val")
    evaluate.add_argument("--plan", action="store_true", help="only list the cells")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    names = (
        "seeds", "first_seed", "crop", "neighbours", "steps", "batch", "learning_rate", "train",
        "test",
    )  # fmt: skip
    spec = EvaluateSpec(
        data=str(full_path(options.data)),
        labels=TileLabels(
            field=options.field, suffix=options.labels, codes=options.codes, nodata=options.nodata
        ),
        encoders=[_choice(text, random=False) for text in options.encoder]
        + [_choice(text, random=True) for text in options.random],
        protocols=[part.strip() for part in options.protocols.split(",") if part.strip()],
        shares=_shares(options.shares),
        outputs=EvaluateOutputs(folder=str(full_path(options.output))),
        **{name: getattr(options, name) for name in names},
    )
    return plan_or_run(spec, _show, only_plan=options.plan, keeps=True)


def _choice(text: str, *, random: bool) -> EncoderChoice:
    name, equals, model = text.partition("=")
    if not equals:
        name, model = "", text
    path = Path(model)
    return EncoderChoice(
        model=str(path.absolute()) if path.is_dir() else model, random=random, name=name
    )


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if not all(0 < share <= 1 for share in shares or [0]):
        raise InputError(
            f"--shares: expected numbers above 0, up to 1, with commas between, found {text!r}.",
            "Write 0.1 for ten percent.",
        )
    return shares


def _show(result: EvaluateResult) -> None:
    for row in result.rows:
        figures = ", ".join(
            f"{name} {value:.3f} ± {row.spreads[name]:.3f}" for name, value in row.scores.items()
        )
        print(f"{row.encoder}, {row.protocol}, {row.share:.0%} of the labels: {figures}")
