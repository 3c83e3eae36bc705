"""Make the plugin's zip and hold it against the rules of the plugin site.

    python tools/package.py [--output FILE]

The zip holds one folder, the same from the same sources byte for byte. Needs bandit and
detect-secrets, whose findings keep a plugin off the site.
"""

from __future__ import annotations

import argparse
import configparser
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = "qgis_mmearth"
FILES = ("__init__.py", "metadata.txt", "LICENSE")
FOLDERS = ("qgis_mmearth", "backend", "resources")
LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "*.pyc", ".*_cache", "*.egg-info", "*.tif.aux.xml", "dev.txt"
)
LARGEST = 25_000_000  # bytes
REQUIRED = (
    "name", "description", "version", "qgisMinimumVersion", "author", "email", "about", "tracker",
    "repository", "homepage",
)  # fmt: skip
PROGRAMS = {".exe", ".dll", ".so", ".dylib", ".bat", ".sh", ".ps1", ".cmd"}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can name
# Rules of bandit that the site leaves out: importing subprocess is no finding there.
NOT_ASKED = "B404"


def main() -> int:
    """Build, check, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / f"{PLUGIN}.zip")
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as scratch:
        folder = stage(Path(scratch))
        problems = [*check_security(folder), *check_metadata(folder)]
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = output.with_suffix(".partial")
        write(folder, partial)
        problems += check_archive(partial)
        if problems:
            partial.unlink()
            print("The plugin site would refuse this:", *problems, sep="\n  ", file=sys.stderr)
            return 1
        partial.replace(output)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
    for key, value in placeholders(ROOT / "metadata.txt"):
        print(f"Before it is published, give {key} in metadata.txt; it is {value}.")
    return 0


def stage(scratch: Path) -> Path:
    """Copy what users get into a folder of the plugin's name."""
    folder = scratch / PLUGIN
    folder.mkdir()
    for name in FILES:
        shutil.copyfile(ROOT / name, folder / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=LEFT_OUT)
    return folder


def write(folder: Path, target: Path) -> None:
    """Write a zip whose bytes depend on nothing but the files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, on every machine
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, path.read_bytes())


def check_archive(path: Path) -> list[str]:
    """Return what the site's validator refuses in the archive itself."""
    problems = []
    if path.stat().st_size > LARGEST:
        problems.append(f"{path.stat().st_size:,} bytes; at most {LARGEST:,} are taken")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if damaged := archive.testzip():
            problems.append(f"{damaged} is damaged")
    tops = {name.split("/")[0] for name in names}
    if tops != {PLUGIN}:
        problems.append(f"top folders {sorted(tops)}; one is expected, {PLUGIN}")
    problems += [f"{PLUGIN}/{name} is missing" for name in FILES if f"{PLUGIN}/{name}" not in names]
    unwanted = re.compile(r"\.\.|\\|:|\.pyc$|(^|/)(__MACOSX|\.git|__pycache__)(/|$)")
    problems += [f"{name} has a forbidden name" for name in names if unwanted.search(name)]
    problems += [f"{name} is a program" for name in names if Path(name).suffix in PROGRAMS]
    return problems


def check_metadata(folder: Path) -> list[str]:
    """Return what is missing from metadata.txt or wrong in it."""
    general = _metadata(folder / "metadata.txt")
    problems = [f"metadata.txt: {key} is missing" for key in REQUIRED if not general.get(key)]
    if not re.fullmatch(r"\d+\.\d+\.\d+", general.get("version", "")):
        problems.append("metadata.txt: version is not X.Y.Z")
    if "/" in general.get("author", ""):
        problems.append("metadata.txt: author has a slash")
    if icon := general.get("icon"):
        if not (folder / icon).is_file():
            problems.append(f"metadata.txt: {icon} does not exist")
    version = re.search(
        r'__version__ = "(.+)"', (folder / "backend/mmearth/__init__.py").read_text()
    )
    if version is None or version[1] != general.get("version"):
        problems.append("metadata.txt and backend/mmearth/__init__.py name different versions")
    return problems


def check_security(folder: Path) -> list[str]:
    """Return findings of bandit and detect-secrets; leave the accepted ones in the folder.

    The only quoted hexadecimal texts are checksums in models' cards; JSON has no comments in which
    to say so, hence ``.secrets.baseline``, which the site reads.
    """
    command = ["bandit", "--quiet", "--recursive", "--format", "json", "--skip", NOT_ASKED, "."]
    found = json.loads(_module(command, folder))
    problems = [f"{e['filename']}: {e['reason']}" for e in found["errors"]]
    problems += [
        f"{row['filename']}:{row['line_number']}: {row['test_id']} {row['issue_text']}"
        for row in found["results"]
    ]
    baseline = json.loads(_module(["detect_secrets", "scan", "--all-files", "."], folder))
    for name, rows in baseline["results"].items():
        lines = (folder / name).read_text("utf-8").splitlines()
        for row in rows:
            line = lines[row["line_number"] - 1]
            if not (name.endswith("/model.json") and '"file:checksum": ' in line):
                problems.append(f"{name}:{row['line_number']}: {row['type']}")
    baseline["generated_at"] = "1980-01-01T00:00:00Z"
    (folder / ".secrets.baseline").write_text(json.dumps(baseline, indent=1) + "\n")
    return problems


def _module(command: list[str], folder: Path) -> str:
    # bandit's exit status is 1 when it has found something; that is in what it prints.
    finished = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False
    )
    if not finished.stdout:
        raise SystemExit(f"{command[0]} failed; run: make dev\n{finished.stderr}")
    return finished.stdout


def _metadata(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path, "utf-8")
    return dict(parser["general"])


def placeholders(path: Path) -> list[tuple[str, str]]:
    """Return the addresses that nobody has filled in yet."""
    return [(key, value) for key, value in _metadata(path).items() if "example.org" in value]


if __name__ == "__main__":
    sys.exit(main())
