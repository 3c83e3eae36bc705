"""Pin the backend's packages: writes backend/locks/*.txt. Needs uv; run by ``make locks``.

One resolution for all platforms and Python versions is split into three files:

packages.txt   everything but torch, with hashes
cuda.txt       torch and what it needs on a graphics card, with hashes; on Windows and macOS, where
               the package index carries no CUDA build, this is the ordinary build
cpu.txt        torch for Linux without a graphics card; without hashes, since this build comes from
               whatever index or folder the user's pip is configured to find it in
onnx.txt, tensorboard.txt   what the extra of that name needs on top, with hashes
dev.txt        what tests and checks need on top, with hashes
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

BACKEND = Path(__file__).resolve().parents[1] / "backend"
LOCKS = BACKEND / "locks"
OLDEST_PYTHON = "3.10"
TORCH = "2.13.0"
TORCHVISION = "0.28.0"  # the one that is built for this torch
DEV = ["bandit", "detect-secrets", "distributed", "httpx", "hypothesis", "jsonschema", "mypy",
       "pb-tool", "PyQt6", "pystac-core", "pytest", "pytest-timeout", "pytest-xdist", "ruff",
       "setuptools"]  # fmt: skip

EXTRAS = {
    "onnx": "What reading and writing ONNX files",
    "tensorboard": "What files of TensorBoard",
}

_CARD_ONLY = re.compile(r"^(torch$|triton$|nvidia-|cuda-)")


def main() -> None:
    """Resolve and write the lock files."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins.txt"
        pins.write_text(f"torch=={TORCH}\ntorchvision=={TORCHVISION}\n")
        base = _compile([str(BACKEND / "pyproject.toml")], pins)
        packages = [entry for entry in base if not _is_card_only(entry)]
        _write("packages.txt", packages, "Everything but torch.")
        _write("cuda.txt", [entry for entry in base if _is_card_only(entry)],
               "torch, with CUDA on Linux.")  # fmt: skip
        _write("cpu.txt", [f"torch=={TORCH}+cpu\n"], "torch without CUDA, for Linux.")
        known = {_name(entry) for entry in base}
        everything = Path(folder) / "all.txt"
        everything.write_text("".join(base))
        for name, title in EXTRAS.items():
            _write(f"{name}.txt", _extra(name, everything, known), f"{title} needs on top.")
        (Path(folder) / "dev.in").write_text("\n".join(DEV))
        dev = _compile([str(Path(folder) / "dev.in")], everything)
        _write("dev.txt", [entry for entry in dev if _name(entry) not in known],
               "What tests and checks need on top.")  # fmt: skip


def _extra(name: str, base: Path, known: set[str]) -> list[str]:
    """Return what an extra needs on top of the packages that are pinned already."""
    extra = _compile([str(BACKEND / "pyproject.toml"), "--extra", name], base)
    return [entry for entry in extra if _name(entry) not in known]


def _compile(sources: list[str], constraints: Path) -> list[str]:
    """Return one text per pinned package: its line and the lines of its hashes."""
    command = [
        sys.executable, "-m", "uv", "pip", "compile", *sources, "--universal",
        "--python-version", OLDEST_PYTHON, "--generate-hashes", "--constraint", str(constraints),
        "--no-emit-index-url", "--no-header", "--no-annotate", "--quiet",
    ]  # fmt: skip
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.findall(r"^\S.*\n(?:[ \t].*\n)*", text, re.MULTILINE)


def _name(entry: str) -> str:
    return re.split(r"[=\s;]", entry, maxsplit=1)[0]


def _is_card_only(entry: str) -> bool:
    return bool(_CARD_ONLY.match(_name(entry)))


def _write(name: str, entries: list[str], title: str) -> None:
    LOCKS.mkdir(exist_ok=True)
    (LOCKS / name).write_text(f"# {title} Made by tools/lock.py; do not edit.\n" + "".join(entries))
    print(f"{LOCKS / name}: {len(entries)} packages")


if __name__ == "__main__":
    main()
