"""The algorithms from the command line of QGIS."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio
from programs import ROOT, SCENE, mmearth, run, wait_until

MODEL = ROOT / "resources" / "models" / "landcover-s2"


@pytest.fixture
def qgis_process(profile: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs qgis_process with the plugin switched on."""

    # Debian starts it through a script that adds an option which only QGIS itself knows.
    program = shutil.which("qgis_process.bin", path="/usr/bin") or "/usr/bin/qgis_process"

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return run([program, *map(str, arguments)], env=profile)

    enabled = call("plugins", "enable", "qgis_mmearth")
    assert enabled.returncode == 0, enabled.stdout
    return call


def test_algorithms_are_listed_with_help(qgis_process) -> None:
    listed = qgis_process("list").stdout
    assert "mmearth:segment" in listed and "mmearth:treemask" in listed
    described = qgis_process("help", "mmearth:segment").stdout
    for name in ("INPUT", "MODEL", "EXTENT", "BANDS", "OUTPUT", "PROBABILITIES", "POLYGONS",
                 "TABLE"):  # fmt: skip
        assert name in described


def test_every_output(qgis_process, processes_left, corner: Path, tmp_path: Path) -> None:
    outputs = {
        "OUTPUT": tmp_path / "map.tif",
        "PROBABILITIES": tmp_path / "probabilities.tif",
        "POLYGONS": tmp_path / "areas.gpkg",
        "TABLE": tmp_path / "areas.csv",
    }
    ran = qgis_process(
        "run", "mmearth:segment", "--json", "--", f"INPUT={corner}",
        *(f"{name}={path}" for name, path in outputs.items()),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    told = json.loads(ran.stdout[ran.stdout.index("{") :])["results"]
    assert {name: told[name] for name in outputs} == {n: str(p) for n, p in outputs.items()}
    assert all(path.stat().st_size for path in outputs.values())
    wait_until(lambda: not processes_left(), 20)


def test_tree_mask_is_that_of_the_command_line_twin(
    qgis_process, corner: Path, tmp_path: Path
) -> None:
    """One job, two ways in, one map."""
    from_qgis, twin = tmp_path / "qgis.tif", tmp_path / "twin.tif"
    ran = qgis_process("run", "mmearth:treemask", "--", f"INPUT={corner}", f"OUTPUT={from_qgis}")
    assert ran.returncode == 0, ran.stdout
    ran = mmearth(
        "segment", corner, "--model", "landcover-s2", "--product", "treemask", "--output", twin
    )
    assert ran.returncode == 0, ran.stdout
    with rasterio.open(from_qgis) as one, rasterio.open(twin) as two:
        assert (one.read() == two.read()).all()


def test_a_model_is_imported(profile, qgis_process, tmp_path: Path) -> None:
    """Into a home of its own: the other tests keep theirs."""
    profile["MMEARTH_HOME"], profile["MMEARTH_PYTHON"] = str(tmp_path / "home"), sys.executable
    archive = shutil.make_archive(str(tmp_path / "model"), "zip", _own_model(tmp_path))
    ran = qgis_process("run", "mmearth:importmodel", "--json", "--", f"FILE={archive}")
    assert ran.returncode == 0, ran.stdout
    told = json.loads(ran.stdout[ran.stdout.index("{") :])["results"]
    assert told["MODEL"] == "own-model"
    assert (Path(told["FOLDER"]) / "model.safetensors").is_file()
    assert "own-model" in qgis_process("help", "mmearth:segment").stdout


def _own_model(folder: Path) -> Path:
    own = folder / "own"
    shutil.copytree(MODEL, own)
    card = json.loads((own / "model.json").read_text("utf-8"))
    (own / "model.json").write_text(json.dumps({**card, "id": "own-model"}), "utf-8")
    return own


def test_bad_input_fails_and_says_why(qgis_process, tmp_path: Path) -> None:
    picture, target = tmp_path / "picture.tif", tmp_path / "map.tif"
    stretch = ["-b", "4", "-b", "3", "-b", "2", "-ot", "Byte", "-scale", "0", "3000", "1", "255"]
    subprocess.run(["/usr/bin/gdal_translate", "-q", *stretch, SCENE, picture], check=True)
    # No picture can be mapped to land cover; to trees it can, once its bands are known.
    for algorithm, said in (("landcover", "8-bit picture"), ("treemask", "names no bands")):
        files = f"INPUT={picture}", f"OUTPUT={target}"
        ran = qgis_process("run", f"mmearth:{algorithm}", "--", *files)
        assert ran.returncode != 0
        assert said in ran.stdout
    assert not list(tmp_path.glob("map*"))
