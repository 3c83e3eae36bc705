"""A model goes from one machine to another, in every form, and computes there what it did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.external_data_helper import convert_model_to_external_data

from mmearth import api
from mmearth.errors import InputError, ModelError, OutputError, WeightsError
from mmearth.jobs import embed, export, install
from mmearth.jobs.context import JobContext
from mmearth.models import save
from mmearth.models.network import Network
from mmearth.models.registry import find_model
from mmearth.models.weights.checkpoint import convert
from mmearth.settings import Settings

IMAGE = np.random.default_rng(0).uniform(0, 0.5, (1, 10, 64, 64)).astype(np.float32)
MASK = np.ones((1, 64, 64), bool)


@pytest.fixture(scope="module")
def first(tiny_model, tmp_path_factory) -> Settings:
    """A machine on which the tiny model is installed, as safetensors and as ONNX."""
    folder = tmp_path_factory.mktemp("first")
    settings = Settings(
        home=folder / "home", models=tiny_model.folder.parent, device="cpu", threads=1
    )
    file = give(settings, "tiny", folder / "tiny.onnx")
    take(settings, file, id="tiny-onnx", title="Tiny, as ONNX")
    return settings


@pytest.fixture
def here(first, tmp_path) -> Settings:
    """A copy of the first machine."""
    return first.model_copy(update={"home": shutil.copytree(first.home, tmp_path / "here")})


@pytest.fixture
def there(tmp_path) -> Settings:
    """A machine without models."""
    (tmp_path / "none").mkdir()
    return Settings(home=tmp_path / "there", models=tmp_path / "none", device="cpu", threads=1)


def give(settings, model, target) -> Path:
    export.run(api.ExportSpec(model=model, target=str(target)), JobContext(settings))
    return target


def take(settings, source, **more) -> api.InstallResult:
    return install.run(api.InstallSpec(source=str(source), **more), JobContext(settings))


def packed(settings, model, form, folder) -> Path:
    if form == "folder":
        found = find_model(model, settings.model_folders).folder
        return Path(shutil.copytree(found, folder / "model"))
    return give(settings, model, folder / f"model.{form}")


def probabilities(settings, model) -> torch.Tensor:
    return Network(find_model(model, settings.model_folders), settings).probabilities(IMAGE, MASK)


@pytest.mark.parametrize("form", ["folder", "zip", "onnx"])
@pytest.mark.parametrize("model", ["tiny", "tiny-onnx"])
def test_there_and_back(here, there, tmp_path, model, form) -> None:
    result = take(there, packed(here, model, form, tmp_path))
    assert result.model.title == find_model(model, here.model_folders).title
    torch.testing.assert_close(
        probabilities(there, result.model.id), probabilities(here, model), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("model", ["tiny", "tiny-onnx"])
def test_other_weights_than_the_cards_are_refused(here, there, tmp_path, model, form) -> None:
    folder = packed(here, model, "folder", tmp_path)
    weights = next(
        path for path in folder.iterdir() if path.stem == "model" and path.suffix != ".json"
    )
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    source = folder
    if form == "zip":
        source = Path(shutil.make_archive(str(tmp_path / "model"), "zip", folder))
    with pytest.raises(ModelError, match="are damaged"):
        take(there, source)
    assert list(there.own_models.iterdir()) == []


def test_weights_that_lie_elsewhere_are_refused_in_a_folder_too(here, there, tmp_path) -> None:
    folder = packed(here, "tiny-onnx", "folder", tmp_path)
    model = onnx.load(folder / "model.onnx")
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, folder / "model.onnx")
    card = json.loads((folder / "model.json").read_text("utf-8"))
    digest = save.file_sha256(folder / "model.onnx")
    card["assets"]["model"]["file:checksum"] = f"1220{digest}"
    (folder / "model.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(ModelError, match="keeps its weights in other files"):
        take(there, folder)
    assert list(there.own_models.iterdir()) == []


def test_a_link_is_not_followed(here, there, tmp_path) -> None:
    folder = packed(here, "tiny", "folder", tmp_path)
    (tmp_path / "secret").write_text("of somebody else")
    (folder / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match=r"notes\.txt is a link"):
        take(there, folder)


def test_a_name_of_ones_own(here, tmp_path) -> None:
    """So that what was exported fits in beside its original."""
    again = packed(here, "tiny", "zip", tmp_path)
    with pytest.raises(ModelError, match="comes with MMEarth"):
        take(here, again)
    found = take(here, again, id="mine", title="My own").model
    assert (found.id, found.title) == ("mine", "My own")
    torch.testing.assert_close(probabilities(here, "mine"), probabilities(here, "tiny"))


@pytest.mark.parametrize(
    "field", [{"level": "L2A"}, {"sensor": "sentinel-2"}, {"bands": ["B02"]}, {"resolution_m": 3.0}]
)
def test_what_a_folder_says_itself_is_not_said_again(here, there, tmp_path, field) -> None:
    with pytest.raises(InputError, match="needs no word of"):
        take(there, packed(here, "tiny", "folder", tmp_path), **field)


def test_a_folder_of_something_else(there, tmp_path) -> None:
    (tmp_path / "docs").mkdir()
    with pytest.raises(ModelError, match=r"docs is no model.*that MMEarth exported"):
        take(there, tmp_path / "docs")
    (tmp_path / "docs" / "model.json").write_text('{"id": "x"}')
    with pytest.raises(ModelError, match=r"docs cannot be read: properties is missing"):
        take(there, tmp_path / "docs")


def test_plans_say_what_runs_would(here, tmp_path, scene) -> None:
    inputs = [api.RasterInput(path=str(scene))]
    spec = api.EmbedSpec(inputs=inputs, model="tiny-onnx", outputs=api.EmbedOutputs())
    words = " ".join(problem.message for problem in embed.plan(spec, here).errors)
    assert "No result is asked for" in words
    named = api.EmbedOutputs(features=str(tmp_path / "f.tif"))
    spec = spec.model_copy(update={"outputs": named})
    (problem,) = embed.plan(spec, here).errors
    assert "whose features are out of reach" in problem.message
    with pytest.raises(ModelError, match="whose features are out of reach"):
        embed.run(spec, JobContext(here))


def test_a_model_that_cannot_be_moved_leaves_the_old_one(
    tiny_model, tiny_facts, tmp_path, monkeypatch
) -> None:
    folder = Path(shutil.copytree(tiny_model.folder, tmp_path / "tiny"))
    replace = save.os.replace

    def fails(source, target):
        if Path(target) == folder and ".old" not in str(source):
            raise OSError("the disk is gone")
        replace(source, target)

    monkeypatch.setattr(save.os, "replace", fails)
    with pytest.raises(OSError, match="the disk is gone"):
        save.save_model(folder, {"x": torch.ones(1)}, tiny_facts)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    assert (folder / "model.safetensors").read_bytes() == tiny_model.weights.read_bytes()


class TestWhoIsToBlame:
    """A download is thrown away only if the file itself is wrong."""

    def test_the_file(self, tmp_path) -> None:
        (tmp_path / "bad.pth").write_bytes(b"no weights")
        with pytest.raises(WeightsError):
            convert(tmp_path / "bad.pth", "resnet18", 3, tmp_path / "out.safetensors")

    def test_the_disk(self, tmp_path) -> None:
        from mmearth.models.registry import build_encoder

        torch.save(build_encoder("resnet18", in_channels=3).state_dict(), tmp_path / "good.pth")
        with pytest.raises(OutputError, match="could not be written"):
            convert(tmp_path / "good.pth", "resnet18", 3, tmp_path / "nowhere" / "out.safetensors")
