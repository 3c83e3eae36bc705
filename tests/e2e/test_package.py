"""The zip that users install, and the same by pb_tool."""

from __future__ import annotations

import os
import stat
import sys
import zipfile
from pathlib import Path

import rasterio
from programs import HOME, ROOT, SCRIPTS, in_qgis, run


def test_zip_is_what_the_plugin_site_takes(package: Path) -> None:
    assert package.stat().st_size <= 25_000_000
    with zipfile.ZipFile(package) as archive:
        entries = archive.infolist()
    names = {entry.filename for entry in entries}
    assert {name.split("/")[0] for name in names} == {"qgis_mmearth"}
    for needed in ("__init__.py", "metadata.txt", "LICENSE", "backend/locks/packages.txt",
                   "resources/models/landcover-s2/model.safetensors"):  # fmt: skip
        assert f"qgis_mmearth/{needed}" in names
    assert not [n for n in names if n.endswith(".pyc") or "__pycache__" in n or "/tests/" in n]
    assert {stat.S_IMODE(entry.external_attr >> 16) for entry in entries} == {0o644}


def test_zip_is_the_same_every_time(package: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    assert run([sys.executable, ROOT / "tools/package.py", "--output", again]).returncode == 0
    assert again.read_bytes() == package.read_bytes()


def test_findings_keep_a_zip_from_being_made(tmp_path: Path) -> None:
    """In a copy of the sources, with a line of the kind that the site refuses."""
    copy = tmp_path / "copy"
    copied = ["metadata.txt", "LICENSE", "__init__.py", "qgis_mmearth", "backend", "resources"]
    run(["/bin/cp", "-r", *(ROOT / name for name in [*copied, "tools"]), _made(copy)])
    with (copy / "qgis_mmearth/paths.py").open("a") as file:
        file.write('\npassword = "hunter2hunter2"\n')
    made = run([sys.executable, copy / "tools/package.py"])
    assert made.returncode == 1
    assert "B105" in made.stdout and "paths.py" in made.stdout
    assert not list(copy.glob("build/*.zip"))


def test_installs_and_runs_from_the_zip(package: Path, corner: Path, tmp_path: Path) -> None:
    """In a fresh profile, through QGIS's own plugin installer."""
    target = tmp_path / "trees.tif"
    profile = tmp_path / "profiles"
    ran = run(
        in_qgis(
            SCRIPTS / "map_trees.py", corner, target, "from the zip",
            options=("--zip", package, "--profile", profile),
        )
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert f"{profile}/profiles/default/python/plugins/qgis_mmearth" in ran.stdout
    with rasterio.open(target) as mask, rasterio.open(corner) as scene:
        assert mask.shape == scene.shape and mask.crs == scene.crs
        assert set(mask.read(1).ravel()) == {1, 2}


def test_plain_pb_tool_makes_the_same(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copied = ["metadata.txt", "LICENSE", "__init__.py", "pb_tool.cfg", "qgis_mmearth", "backend",
              "resources"]  # fmt: skip
    run(["/bin/cp", "-r", *(ROOT / name for name in copied), _made(copy)])
    pb_tool = Path(sys.executable).with_name("pb_tool")
    # It deploys to the user's profile first; this user is another one.
    user = {**os.environ, "HOME": str(_made(tmp_path / "user"))}
    run([pb_tool, "zip"], cwd=copy, input="y\n", env=user)
    with zipfile.ZipFile(package) as ours, zipfile.ZipFile(copy / "qgis_mmearth.zip") as theirs:
        names = {name for name in theirs.namelist() if not name.endswith(("/", ".pyc"))}
        missing = set(ours.namelist()) - names
        assert missing == {"qgis_mmearth/.secrets.baseline"}
        code = [name for name in names if name.endswith((".py", ".ui", ".json"))]
        assert all(ours.read(name) == theirs.read(name) for name in code)


def test_home_is_the_one_that_setup_made() -> None:
    """Otherwise the tests above would speak of another installation."""
    assert (HOME / "env").is_dir()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
