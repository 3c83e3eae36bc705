"""``mmearth finetune``: teach a model classes that were drawn on the map."""

from __future__ import annotations

import argparse

from mmearth.api import FinetuneOutputs, FinetuneResult, FinetuneSpec, LabelClass, LabelSource
from mmearth.cli.mapping import add_mapping_options, full_path, mapping_fields, plan_or_run


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    finetune = commands.add_parser("finetune", help="train a model on labels drawn on the map")
    add_mapping_options(finetune)
    finetune.add_argument(
        "--labels", required=True, help="vector file with a class field, or raster of class codes"
    )
    finetune.add_argument("--layer", help="layer of the vector file; default: all with the field")
    finetune.add_argument("--field", help="field that holds the class; a label raster has none")
    finetune.add_argument(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help="to learn, in order, as they stand in the field; default: all",
    )
    finetune.add_argument(
        "--protocol",
        choices=("quick", "adapter", "full"),
        default="quick",
        help="quick: a new head on the network as it is; adapter: small additions to its encoder "
        "too; full: all weights; default: quick",
    )
    finetune.add_argument(
        "--from-scratch", action="store_true", help="take the model's architecture, not its weights"
    )
    finetune.add_argument(
        "--loss", default=FinetuneSpec.model_fields["loss"].default, help="not for quick"
    )
    finetune.add_argument(
        "--validation",
        type=float,
        default=FinetuneSpec.model_fields["validation"].default,
        metavar="SHARE",
        help="of the labels that is tested on, 0 to 0.5; default: %(default)s",
    )
    finetune.add_argument("--epochs", type=int, help="most epochs; not for quick")
    finetune.add_argument("--seed", type=int, default=0, help="of everything drawn at random")
    finetune.add_argument("--title", default="", help="of the tuned model")
    finetune.add_argument("--id", help="of the tuned model; default: made from the title")
    finetune.add_argument("--output", help="folder for a copy of the tuned model")
    finetune.add_argument("--report", help="HTML page; default: beside the installed model")
    finetune.set_defaults(run=_finetune)


def _finetune(options: argparse.Namespace) -> int:
    spec = FinetuneSpec(
        **mapping_fields(options),
        labels=LabelSource(
            path=full_path(options.labels) or "",
            layer=options.layer,
            field=options.field,
            classes=[LabelClass(value=value) for value in options.classes or ()],
        ),
        protocol=options.protocol,
        from_scratch=options.from_scratch,
        loss=options.loss,
        validation=options.validation,
        epochs=options.epochs,
        seed=options.seed,
        id=options.id,
        title=options.title,
        outputs=FinetuneOutputs(model=full_path(options.output), report=full_path(options.report)),
    )
    return plan_or_run(spec, _show, only_plan=options.plan, keeps=True)


def _show(result: FinetuneResult) -> None:
    for row in result.classes:
        iou = "" if row.iou is None else f" IoU {row.iou:.2f}"
        print(f"{row.title:<24} {row.units:>6,} labels {row.pixels:>10,} pixels{iou}")
    if result.accuracy is not None:
        low, high = result.accuracy_low or 0.0, result.accuracy_high or 0.0
        print(
            f"{100 * result.accuracy:.1f} % right on labels that were not learned from "
            f"({100 * low:.1f} to {100 * high:.1f} %)"
        )
    if result.baseline_accuracy is not None:
        print(f"{100 * result.baseline_accuracy:.1f} %: a random forest on the raw bands")
    print(f"identifier: {result.model.id}")
