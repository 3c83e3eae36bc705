"""Make the backend's environment from the command line, as the plugin's button does."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from qgis_mmearth.link.environment import Environment, Options, default_home  # noqa: E402
from qgis_mmearth.link.errors import LinkError  # noqa: E402


def main() -> int:
    """Install; print what is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=default_home())
    parser.add_argument("--accelerator", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--wheels", default="", help="folder of wheels, for machines without network"
    )
    parser.add_argument(
        "--extra", choices=["onnx", "tensorboard"], help="install this optional part as well"
    )
    parser.add_argument("--python", action="store_true", help="only print the interpreter's path")
    options = parser.parse_args()
    environment = Environment(
        options.home.resolve(),
        ROOT / "backend",
        Options(accelerator=options.accelerator, wheels=options.wheels),
    )
    if options.python:
        print(environment.python)
        return 0
    said = ""

    def progress(share: float, words: str) -> None:
        nonlocal said
        if words != said:
            said = words
            print(f"{share:4.0%} {words}", flush=True)

    try:
        environment.install(progress)
        if options.extra and not environment.has_extra(options.extra):
            environment.install_extra(options.extra, progress)
    except LinkError as error:
        print(f"{error}\n\nThe log is {environment.log_file}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
