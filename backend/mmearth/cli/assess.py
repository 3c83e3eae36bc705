"""``mmearth sampledesign`` and ``mmearth assess``: judge a map by a sample."""

from __future__ import annotations

import argparse

from mmearth.api import (
    AssessOutputs,
    AssessResult,
    AssessSpec,
    Estimate,
    ExpectedAccuracy,
    SampleDesignResult,
    SampleDesignSpec,
    SampleOutputs,
)
from mmearth.cli.mapping import full_path, plan_or_run
from mmearth.errors import InputError, counted

_DESIGN = SampleDesignSpec.model_fields


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    design = commands.add_parser(
        "sampledesign", help="draw a stratified random sample of a class map, to be interpreted"
    )
    design.add_argument("raster", metavar="RASTER", help="class map; its classes are the strata")
    design.add_argument("--output", required=True, help="points (GeoPackage)")
    design.add_argument("--table", help="strata (CSV)")
    design.add_argument(
        "--size", type=int, help="points; default: what target error and minimum need"
    )
    design.add_argument(
        "--target-error",
        type=float,
        default=_DESIGN["target_error"].default,
        help="standard error of overall accuracy that is wished for; default: %(default)s",
    )
    design.add_argument(
        "--expected",
        action="append",
        default=[],
        metavar="CLASS=ACCURACY",
        help="user's accuracy that is expected of a class, 0 to 1; repeatable",
    )
    design.add_argument(
        "--expected-accuracy",
        type=float,
        default=_DESIGN["expected_accuracy"].default,
        help="of all other classes; default: %(default)s",
    )
    design.add_argument(
        "--allocation",
        choices=("proportional", "equal", "compromise"),
        default=_DESIGN["allocation"].default,
        help="of the points to the classes; compromise: rare ones have the minimum, the others "
        "what is left; default: %(default)s",
    )
    design.add_argument(
        "--minimum",
        type=int,
        default=_DESIGN["minimum"].default,
        help="points of a rare class; default: %(default)s",
    )
    design.add_argument("--seed", type=int, default=0, help="decides what is drawn")
    design.set_defaults(run=_design)
    assess = commands.add_parser(
        "assess", help="compare a map with a reference: accuracies, and areas with intervals"
    )
    assess.add_argument("map", metavar="MAP", help="class map")
    assess.add_argument(
        "--reference",
        required=True,
        metavar="FILE",
        help="interpreted sample, other vector file, or raster of class codes",
    )
    assess.add_argument("--layer", help="layer of the vector file")
    assess.add_argument("--field", help="field that holds the class; a sample's is 'reference'")
    assess.add_argument("--table", help="confusion matrix and accuracies (CSV)")
    assess.add_argument("--areas", help="areas (CSV)")
    assess.add_argument("--report", help="HTML page")
    assess.set_defaults(run=_assess)


def _design(options: argparse.Namespace) -> int:
    spec = SampleDesignSpec(
        raster=options.raster,
        size=options.size,
        target_error=options.target_error,
        expected=[_expected(text) for text in options.expected],
        expected_accuracy=options.expected_accuracy,
        allocation=options.allocation,
        minimum=options.minimum,
        seed=options.seed,
        outputs=SampleOutputs(
            sample=full_path(options.output) or "", table=full_path(options.table)
        ),
    )
    return plan_or_run(spec, _show_design)


def _expected(text: str) -> ExpectedAccuracy:
    value, _, accuracy = text.rpartition("=")
    try:
        return ExpectedAccuracy(value=value, accuracy=float(accuracy))
    except ValueError:
        raise InputError(
            f"--expected: expected CLASS=ACCURACY such as 1=0.8, found {text!r}."
        ) from None


def _show_design(result: SampleDesignResult) -> None:
    for row in result.strata:
        print(f"{row.title:<24} {row.hectares:>14,.2f} ha {counted(row.points, 'point'):>13}")
    print(
        f"{counted(result.size, 'point')}; standard error of overall accuracy about "
        f"{result.expected_error:.3f} if the expected accuracies come true"
    )


def _assess(options: argparse.Namespace) -> int:
    spec = AssessSpec(
        map=options.map,
        reference=options.reference,
        layer=options.layer,
        field=options.field,
        outputs=AssessOutputs(
            table=full_path(options.table),
            areas=full_path(options.areas),
            report=full_path(options.report),
        ),
    )
    return plan_or_run(spec, _show_assessed)


def _show_assessed(result: AssessResult) -> None:
    print(f"Overall accuracy {_percent(result.accuracy)}")
    for row in result.classes:
        print(
            f"{row.title:<24} user's {_percent(row.users_accuracy)}, producer's "
            f"{_percent(row.producers_accuracy)}, {_hectares(row.hectares)} "
            f"({row.mapped_hectares:,.2f} ha on the map)"
        )


def _percent(found: Estimate) -> str:
    if found.value is None or found.standard_error is None:
        return "unknown"
    return f"{100 * found.value:.1f} ± {196 * found.standard_error:.1f} %"


def _hectares(found: Estimate) -> str:
    if found.value is None or found.standard_error is None:
        return "area unknown"
    return f"{found.value:,.2f} ± {1.96 * found.standard_error:,.2f} ha"
