"""``mmearth doctor`` and ``mmearth serve``."""

from __future__ import annotations

import argparse

from mmearth.cli.progress import EXIT_ERROR
from mmearth.settings import Settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    doctor = commands.add_parser("doctor", help="check the installation")
    doctor.set_defaults(run=_doctor)
    serve = commands.add_parser("serve", help="run the service that the plugin talks to")
    serve.add_argument("--parent-pid", type=int, help="end when this process does")
    serve.add_argument(
        "--keep-running", action="store_true", help="do not end when standard input does"
    )
    serve.set_defaults(run=_serve)


def _doctor(_options: argparse.Namespace) -> int:
    from mmearth.doctor import report

    lines, healthy = report(Settings())
    print("\n".join(lines))
    return 0 if healthy else EXIT_ERROR


def _serve(options: argparse.Namespace) -> int:
    from mmearth.service.serve import serve

    serve(Settings(), parent_pid=options.parent_pid, watch_stdin=not options.keep_running)
    return 0
