"""The user's own models are put in place and removed whole or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from mmearth.errors import ModelError, OutputError
from mmearth.models.card import read_card
from mmearth.models.registry import find_model, installed_models
from mmearth.models.store.library import check_identifier, place, remove, staging
from mmearth.settings import Settings


@pytest.fixture
def settings(tiny_model, tmp_path):
    """Settings whose embedded model is the tiny one, with none of the user's own."""
    return Settings(home=tmp_path / "home", models=tiny_model.folder.parent)


@pytest.fixture
def put(settings, tiny_model):
    """Return a function that puts a model in place."""

    def put(identifier="mine", version="1.0.0", change=lambda folder: None):
        with staging(settings) as folder:
            new = copy(tiny_model, folder / "new", id=identifier, version=version)
            change(new)
            return place(read_card(new), folder, settings)

    return put


def copy(card, folder, **facts):
    shutil.copytree(card.folder, folder)
    item = json.loads((folder / "model.json").read_text("utf-8"))
    item["id"] = facts.get("id", card.id)
    item["properties"]["version"] = facts.get("version", card.version)
    if "sha256" in facts:
        item["assets"]["model"]["file:checksum"] = f"1220{facts['sha256']}"
    (folder / "model.json").write_text(json.dumps(item), "utf-8")
    return folder


def names(settings) -> list[str]:
    return sorted(path.name for path in settings.own_models.iterdir())


def test_a_model_is_placed_and_removed(settings, put) -> None:
    card = put()
    assert card.folder == settings.own_models / "mine"
    card.check_weights()
    assert find_model("mine", settings.model_folders) == card
    remove("mine", settings)
    assert names(settings) == []
    with pytest.raises(ModelError, match="No model 'mine' is installed"):
        remove("mine", settings)


@pytest.mark.parametrize(
    "identifier",
    ["", ".", "..", "../x", "a/b", "a\\b", "C:", ".hidden", "end.", "a b", "con", "NUL.x",
     "x" * 101],
)  # fmt: skip
def test_what_cannot_name_a_folder_is_refused(settings, identifier) -> None:
    with pytest.raises(ModelError, match="cannot be the name of a folder"):
        check_identifier(identifier, settings)


def test_names_are_free_otherwise(settings) -> None:
    for identifier in ("a", "forest-2026", "My_Model.v2", "console", "x" * 100):
        check_identifier(identifier, settings)


@pytest.mark.parametrize("identifier", ["tiny", "Tiny"])
def test_embedded_models_are_neither_replaced_nor_removed(settings, put, identifier) -> None:
    with pytest.raises(ModelError, match="comes with MMEarth"):
        put(identifier)
    with pytest.raises(ModelError, match=r"comes with MMEarth|No model"):
        remove(identifier, settings)
    assert find_model("tiny", settings.model_folders).folder.is_dir()


def test_another_version_takes_the_place_of_the_old_one(settings, put) -> None:
    put(change=lambda folder: (folder / "notes.txt").write_text("old"))
    assert put(version="1.1.0").version == "1.1.0"
    assert [card.version for card in installed_models([settings.own_models])] == ["1.1.0"]
    assert not (settings.own_models / "mine" / "notes.txt").exists()
    assert names(settings) == ["mine"]


def test_a_model_under_another_folder_name_is_replaced(settings, put) -> None:
    put()
    (settings.own_models / "mine").rename(settings.own_models / "by-hand")
    put(version="2")
    assert names(settings) == ["mine"]


def test_the_very_same_model_is_mended(settings, put) -> None:
    card = put()
    card.weights.write_bytes(b"damaged")
    put().check_weights()


def test_another_model_of_the_same_version_is_not_lost(settings, put, tiny_model) -> None:
    put()
    with (
        pytest.raises(ModelError, match="Another model called mine is installed"),
        staging(settings) as folder,
    ):
        other = copy(tiny_model, folder / "new", id="mine", sha256="ab" * 32)
        place(read_card(other), folder, settings)
    find_model("mine", settings.model_folders).check_weights()
    assert names(settings) == ["mine"]


def test_damaged_models_can_be_replaced_and_removed(settings, put) -> None:
    for again in (put, lambda: remove("mine", settings)):
        put()
        (settings.own_models / "mine" / "model.json").write_text("{")
        again()
    assert names(settings) == []


def test_a_reader_never_sees_half_a_model(settings, put) -> None:
    """Folders in the making lie too deep to be taken for models."""
    put()
    with staging(settings) as folder:
        shutil.copytree(settings.own_models / "mine", folder / "new")
        (folder / "new" / "model.safetensors").unlink()
        assert len(installed_models([settings.own_models])) == 1


def test_a_killed_run_is_undone(settings, put) -> None:
    """Killed after the old model was moved away, and before the new one was in its place."""
    put()
    program = (
        "import os, sys; from pathlib import Path\n"
        "from mmearth.models.store.library import staging; from mmearth.settings import Settings\n"
        "settings = Settings(home=Path(sys.argv[1]))\n"
        "with staging(settings) as folder:\n"
        "    (folder / 'replaced').mkdir()\n"
        "    (settings.own_models / 'mine').rename(folder / 'replaced' / 'mine')\n"
        "    os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", program, settings.home])
    assert done.returncode == 9 and installed_models([settings.own_models]) == []
    with staging(settings):
        find_model("mine", settings.model_folders).check_weights()
    assert names(settings) == ["mine"]


def test_models_in_the_making_elsewhere_are_left_alone(settings) -> None:
    with staging(settings) as first, staging(settings) as second:
        assert first.is_dir() and second.is_dir() and first != second
    assert names(settings) == []


def test_a_folder_that_cannot_be_written_to_is_told(settings) -> None:
    settings.home.mkdir()
    settings.own_models.write_text("")
    with pytest.raises(OutputError, match="MMEARTH_HOME"), staging(settings):
        pass
