"""The command line: what the plugin does by clicking, for scripts and servers.

A new command is one file with ``add``, and one line here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from pydantic import ValidationError

from mmearth import __version__
from mmearth.cli.progress import EXIT_ERROR
from mmearth.errors import JobCancelled, MMEarthError
from mmearth.settings import Settings

EXIT_CANCELLED = 130
COMMANDS = (
    "products", "segment", "disturbance", "finetune", "pair", "views", "pretrain", "evaluate",
    "embed", "similarity", "assess", "models", "service",
)  # fmt: skip
# Options that are called otherwise than the field of the request that they fill.
_OPTIONS = {
    "scale": "--scale",
    "offset": "--offset",
    "minimum_area_ha": "--minimum-area",
    "cell_m": "--cell",
    "tile_size": "--tile",
    "scheduler": "--scheduler",
    "bounds": "--extent",
    "index": "--band",
    "stride": "--stride",
    "band": "--mask-band",
    "bits": "--mask-bits",
    "validation": "--validation",
    "epochs": "--epochs",
    "seed": "--seed",
    "size": "--size",
    "target_error": "--target-error",
    "expected_accuracy": "--expected-accuracy",
    "minimum": "--minimum",
    "date": "--image",
    "level": "--level",
    "count": "--count",
    "minimum_valid": "--minimum-valid",
    "block_km": "--block",
    "test": "--test",
    "steps": "--steps",
    "batch": "--batch",
    "accumulate": "--accumulate",
    "crop": "--crop",
    "learning_rate": "--learning-rate",
    "step": "--step",
    "least_dates": "--least-dates",
    "nodata": "--nodata",
    "clouds": "--clouds",
    "encoders": "--encoder",
    "seeds": "--seeds",
    "first_seed": "--first-seed",
    "neighbours": "--neighbours",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except JobCancelled:
        print("Cancelled.", file=sys.stderr)
        return EXIT_CANCELLED
    except MMEarthError as error:
        print(f"mmearth: {error}", file=sys.stderr)
        return EXIT_ERROR
    except ValidationError as error:
        print(f"mmearth: {_invalid(error)}", file=sys.stderr)
        return EXIT_ERROR


def _invalid(error: ValidationError) -> str:
    """Put in words which option or environment variable has a value that it may not have."""
    settings = error.title == Settings.__name__
    words = []
    for item in error.errors():
        name = "_".join(str(part) for part in item["loc"])
        known = f"MMEARTH_{name.upper()}" if settings else _OPTIONS.get(name, name)
        words.append(f"{known}: {item['msg']}, found {item['input']!r}.")
    return " ".join(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmearth", description="Land-cover and forest maps from satellite images."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in COMMANDS:
        import_module(f"mmearth.cli.{name}").add(commands)
    return parser
