"""Asking a process of its own about a file that may be made to do harm."""

from __future__ import annotations

import subprocess  # nosec B404 - starts our own module, with a fixed list of arguments
import sys
from collections.abc import Callable
from pathlib import Path

from mmearth.api import Problem
from mmearth.errors import DiskFullError, MMEarthError, ModelError, OutputError, WeightsError

SECONDS = 600.0
# What a child may tell; its other errors come as the class that all of them are of.
KINDS = {kind.code: kind for kind in (DiskFullError, OutputError, WeightsError)}


def ask(module: str, source: Path, *arguments: str) -> str:
    """Run one of our modules in a child process, and return the last line that it prints.

    Whatever exhausts memory or crashes the reader there takes nothing else with it.

    Args:
        module: its name; its program ends with ``answer``.
        source: the file, its first argument.
        arguments: the others.

    Raises:
        ModelError: with the child's words, if the file is not as expected.
        OutputError: if the child could not write.
    """
    command = [sys.executable, "-m", module, str(source), *arguments]
    try:
        done = subprocess.run(  # nosec B603 - own interpreter, no shell
            command, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"{source.name} was not read within {SECONDS:.0f} s.", "It may be damaged."
        ) from error
    lines = done.stdout.splitlines()
    if done.returncode:
        try:
            problem = Problem.model_validate_json(lines[-1])
        except (ValueError, IndexError):
            raise ModelError(
                f"{source.name} could not be read: the reader ended with {done.returncode}.",
                "The file may be damaged, or too large for this machine's memory.",
            ) from None
        kind: type[MMEarthError] = KINDS.get(problem.code, ModelError)
        raise kind(problem.message, problem.advice)
    return lines[-1] if lines else ""


def answer(work: Callable[[], str]) -> int:
    """Print what is found, in the child process; a problem is told in a line of JSON.

    Returns:
        The exit status.
    """
    try:
        print(work())
    except MMEarthError as error:
        print(Problem.of(error).model_dump_json())
        return 1
    return 0
