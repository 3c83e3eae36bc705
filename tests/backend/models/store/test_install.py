"""Models are installed from a server, a file of weights, a folder or a zip, and can be used."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from downloads import serving
from goldens import mmearth_file
from scenes import ROOT

from mmearth.api import InstallSpec
from mmearth.errors import (
    DiskFullError,
    DownloadError,
    InputError,
    JobCancelled,
    LicenceError,
    MMEarthError,
    ModelError,
)
from mmearth.jobs.context import JobContext
from mmearth.jobs.install import plan, run
from mmearth.models.card import file_sha256, read_card
from mmearth.models.network import Network
from mmearth.models.registry import find_model
from mmearth.models.store.archive import pack
from mmearth.models.store.published import find_published
from mmearth.models.store.weights import recognise
from mmearth.processes import exclusive
from mmearth.settings import PUBLISHED_MODELS, Settings

MMEARTH = "mmearth-all-mod-atto-1m-64-uncertainty-56-8"
INSTALLED = f"{MMEARTH}-l1c"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """No proxy is in the way."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def settings(tiny_model, tmp_path):
    """Settings whose embedded model is the tiny one, with none of the user's own."""
    return Settings(
        home=tmp_path / "home", models=tiny_model.folder.parent, device="cpu", threads=1
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return mmearth_file(tmp_path_factory.mktemp("published"))


@pytest.fixture
def server(weights):
    with serving(weights.read_bytes()) as running:
        yield running


@pytest.fixture
def online(settings, server, tmp_path):
    """Settings whose published encoders lie on the server of this test."""
    table = PUBLISHED_MODELS.read_text("utf-8")
    host = server.url.removesuffix("/weights.pth")
    (tmp_path / "published.toml").write_text(table.replace("https://sid.erda.dk", host), "utf-8")
    return settings.model_copy(update={"published": tmp_path / "published.toml"})


@pytest.fixture
def copied(tiny_model, tmp_path):
    """A folder of a model of the user's own."""
    folder = shutil.copytree(tiny_model.folder, tmp_path / "copy")
    card = (folder / "model.json").read_text("utf-8").replace('"id": "tiny"', '"id": "copy"')
    (folder / "model.json").write_text(card, "utf-8")
    return folder


def install(settings, *, context=None, **request):
    return run(InstallSpec(**request), context or JobContext(settings))


def refused(settings, kind, words, **request) -> MMEarthError:
    """Check that plan and run refuse a request in the same words."""
    with pytest.raises(kind, match=words) as caught:
        install(settings, **request)
    (problem,) = plan(InstallSpec(**request), settings).errors
    assert (problem.message, problem.code) == (caught.value.message, kind.code)
    assert caught.value.advice and nothing_left(settings)
    return caught.value


def nothing_left(settings) -> bool:
    return not settings.own_models.exists() or list(settings.own_models.iterdir()) == []


class TestDownload:
    def test_a_published_encoder_can_be_used(self, online, server) -> None:
        """Also if the download was cancelled half way, and went on."""
        server.faults = ["stall"]
        told = []
        half_way = threading.Event()

        def watch(share: float, stage: str, eta: float | None) -> None:
            told.append((share, stage))
            if share > 0.1:
                half_way.set()

        context = JobContext(online, watch, half_way.is_set)
        with pytest.raises(JobCancelled):
            install(online, context=context, published=MMEARTH, accept_licence=True)
        assert nothing_left(online)
        told.clear()
        result = install(
            online, context=JobContext(online, watch), published=MMEARTH, accept_licence=True
        )
        assert "Range" in server.seen[1]
        assert (result.model.id, result.model.products) == (INSTALLED, [])
        network = Network(find_model(INSTALLED, online.model_folders), online)
        mask = torch.ones(1, 64, 64, dtype=torch.bool)
        features = network.scores(torch.full((1, 12, 64, 64), 0.1), mask)
        assert torch.isfinite(features).all() and features.std() > 0
        size = round(len(server.body) / 2**20)
        assert any(f"of {size} MB" in stage for _, stage in told)
        shares = [share for share, _ in told]
        assert shares == sorted(shares) and 0.1 < shares[0] and shares[-1] <= 1
        assert [path.suffix for path in online.downloads_folder.iterdir()] == [".lock"]

    def test_the_licence_is_to_be_accepted(self, online, server) -> None:
        error = refused(online, LicenceError, "not for commercial use", published=MMEARTH)
        assert "CC-BY-NC" in error.message and "--accept-licence" in error.advice
        assert server.seen == []

    def test_planning_asks_no_server(self, online, server) -> None:
        spec = InstallSpec(published=MMEARTH, accept_licence=True)
        assert plan(spec, online).ready and server.seen == []
        assert not online.home.exists()

    def test_what_is_not_the_model_is_not_kept(self, online, server) -> None:
        server.body = b"not weights at all"
        with pytest.raises(ModelError):
            install(online, published=MMEARTH, accept_licence=True)
        assert nothing_left(online)
        assert not list(online.downloads_folder.glob("*/*.pth"))

    def test_a_server_without_the_file_is_told(self, online, server) -> None:
        server.faults = [404]
        with pytest.raises(DownloadError, match="no longer has the file"):
            install(online, published=MMEARTH, accept_licence=True)

    def test_only_one_at_a_time(self, online, server) -> None:
        online.downloads_folder.mkdir(parents=True)
        with (
            exclusive(online.downloads_folder / f"{MMEARTH}.lock"),
            pytest.raises(DownloadError, match="by another window"),
        ):
            install(online, published=MMEARTH, accept_licence=True)
        assert server.seen == []

    def test_own_files_are_asked_for(self, settings) -> None:
        error = refused(
            settings, ModelError, "no licence",
            published="spectralearth-rn50-moco", accept_licence=True,
        )  # fmt: skip
        assert "spec_rn50_moco.pth" in error.advice and "https://" in error.advice

    def test_levels_it_was_not_trained_on_are_refused(self, settings) -> None:
        refused(
            settings, ModelError, "not trained on level L2A",
            published="ssl4eo-resnet18-all-moco", level="L2A", accept_licence=True,
        )  # fmt: skip

    def test_the_proxys_password_is_nowhere(self, online) -> None:
        online = online.model_copy(
            update={"proxy": type(online.proxy)("http://anna:pearl@127.0.0.1:9")}
        )
        assert "pearl" not in repr(online) and "pearl" not in online.model_dump_json()


class TestWeights:
    def test_a_file_is_installed(self, settings, weights) -> None:
        result = install(settings, published=MMEARTH, source=str(weights), level="L2A")
        assert result.model.id == f"{MMEARTH}-l2a" and result.model.levels == ["L2A"]
        assert weights.exists()

    def test_several_of_one_name_are_told(self, settings, weights) -> None:
        error = refused(
            settings, ModelError, "may be any of several published encoders", source=str(weights)
        )
        assert MMEARTH in error.advice and "ssl4eo" not in error.advice

    def test_unknown_ones_are_told(self, settings, weights, tmp_path) -> None:
        other = shutil.copy(weights, tmp_path / "mine.pth")
        error = refused(settings, ModelError, "is not known by its name", source=str(other))
        assert MMEARTH in error.advice and "ssl4eo-resnet50-all-dino" in error.advice

    def test_a_name_of_its_own_is_recognised(self, settings, tmp_path) -> None:
        file = find_published("ssl4eo-vit-small-all-mae").file_name
        torch.save({}, tmp_path / file)
        assert plan(InstallSpec(source=str(tmp_path / file)), settings).ready

    def test_a_hash_is_recognised_under_any_name(self, tmp_path) -> None:
        (tmp_path / "mine.pth").write_bytes(b"published under another name")
        table = PUBLISHED_MODELS.read_text("utf-8")
        digest = file_sha256(tmp_path / "mine.pth")
        published = find_published("ssl4eo-resnet18-all-moco").sha256
        (tmp_path / "list.toml").write_text(table.replace(published, digest), "utf-8")
        found = recognise(tmp_path / "mine.pth", tmp_path / "list.toml")
        assert found.id == "ssl4eo-resnet18-all-moco"


class TestModels:
    @pytest.mark.parametrize("packed", [False, True])
    def test_a_model_is_installed(self, settings, copied, tmp_path, packed) -> None:
        source = copied
        if packed:
            source = tmp_path / "copy.zip"
            pack(read_card(copied), source, lambda count: None)
        result = install(settings, source=str(source))
        assert result.model.id == "copy" and result.warnings == []
        card = find_model("copy", settings.model_folders)
        assert card.folder == settings.own_models / "copy"
        assert (card.folder / "README.md").is_file()
        Network(card, settings)
        (warning,) = install(settings, source=str(source)).warnings
        assert warning.code == "installed" and "is installed already" in warning.message

    def test_another_version_takes_the_place_of_the_old(self, settings, copied) -> None:
        install(settings, source=str(copied))
        card = (copied / "model.json").read_text("utf-8")
        (copied / "model.json").write_text(card.replace('"1.0.0"', '"1.1.0"'), "utf-8")
        (planned,) = plan(InstallSpec(source=str(copied)), settings).warnings
        (warning,) = install(settings, source=str(copied)).warnings
        assert planned == warning and warning.code == "replaced"
        assert "Version 1.1.0 takes the place of" in warning.message
        assert find_model("copy", settings.model_folders).version == "1.1.0"

    def test_those_of_mmearth_are_not_replaced(self, settings, tiny_model) -> None:
        refused(settings, ModelError, "comes with MMEarth", source=str(tiny_model.folder))

    def test_damaged_weights_are_refused(self, settings, copied) -> None:
        (copied / "model.safetensors").write_bytes(b"damaged")
        with pytest.raises(ModelError, match="damaged: expected SHA-256"):
            install(settings, source=str(copied))
        assert nothing_left(settings)

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("mmearth:sensor", "nonsense", "Unknown sensor"),
            ("mmearth:network", {"decoder": "unet9", "encoder": "x", "options": {},
             "multiply_adds_per_pixel": 1}, "Unknown decoder"),
            ("mmearth:network", {"decoder": "unet", "encoder": "resnet18", "options": {},
             "multiply_adds_per_pixel": 1}, "do not fit its network"),
        ],
    )  # fmt: skip
    def test_what_cannot_run_is_refused(self, settings, copied, key, value, words) -> None:
        item = json.loads((copied / "model.json").read_text("utf-8"))
        item["properties"][key] = value
        (copied / "model.json").write_text(json.dumps(item), "utf-8")
        with pytest.raises(ModelError, match=words):
            install(settings, source=str(copied))
        assert nothing_left(settings)

    def test_a_cancel_leaves_nothing(self, settings, copied) -> None:
        stages = []
        context = JobContext(settings, lambda *now: stages.append(now[1]), lambda: len(stages) > 1)
        with pytest.raises(JobCancelled):
            install(settings, context=context, source=str(copied))
        assert stages[1].startswith("Writing") and nothing_left(settings)

    def test_a_small_disk_is_told_before(self, settings, copied, small_disk) -> None:
        with (copied / "notes.bin").open("wb") as file:
            file.truncate(2**22)
        settings = settings.model_copy(update={"home": small_disk})
        refused(settings, DiskFullError, "are needed", source=str(copied))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "Nothing to install"),
        ({"source": "relative.zip"}, "no full path"),
        ({"source": "/nowhere/x.zip"}, "does not exist"),
        ({"source": str(ROOT / "README.md")}, "ends with .*zip, found README"),
        ({"source": str(ROOT / "tests"), "published": MMEARTH}, "Expected the file of weights"),
    ],
)
def test_requests_that_name_nothing_are_refused(settings, request_, words) -> None:
    refused(settings, InputError, words, **request_)


def test_a_list_that_cannot_be_read_is_told(settings, tmp_path) -> None:
    (tmp_path / "list.toml").write_text("[[models]]\nid = 'x'")
    settings = settings.model_copy(update={"published": tmp_path / "list.toml"})
    refused(settings, ModelError, "list of published models", published=MMEARTH)
