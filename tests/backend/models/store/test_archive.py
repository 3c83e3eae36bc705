"""What travels between machines is a model, and nothing that could do harm."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import zipfile

import pytest

from mmearth.api import InstallSpec
from mmearth.errors import ModelError
from mmearth.models.card import read_card
from mmearth.models.store import archive
from mmearth.models.store.archive import inspect, make_model, pack, packed_bytes

SPEC = InstallSpec()


@pytest.fixture
def packed(tiny_model, tmp_path):
    path = tmp_path / "tiny.zip"
    pack(tiny_model, path, lambda count: None)
    return path


@pytest.fixture
def card(tiny_model):
    return (tiny_model.folder / "model.json").read_bytes()


@pytest.fixture
def forge(tmp_path, tiny_model, card):
    """Return a function that makes a zip of a model and something else."""

    def forge(*extras, weights="m/model.safetensors", kind=None):
        path = tmp_path / "forged.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("m/model.json", card)
            if weights:
                file.write(tiny_model.weights, weights)
            for name, content in extras:
                entry = zipfile.ZipInfo("x")
                entry.filename = entry.orig_filename = name
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = ((kind or stat.S_IFREG) | 0o777) << 16
                file.writestr(entry, content)
        return path

    return forge


def unpack(path, folder):
    folder.mkdir(exist_ok=True)
    return make_model(path, SPEC, folder, None, lambda count: None)


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_comes_out_as_it_went_in(packed, tiny_model, tmp_path) -> None:
    found = inspect(packed, SPEC, None)
    assert found == ("tiny", "1.0.0", packed_bytes(tiny_model))
    copy = unpack(packed, tmp_path / "out")
    copy.check_weights()
    assert contents(copy.folder) == contents(tiny_model.folder)
    assert {"model.json", "model.safetensors", "README.md"} <= set(contents(copy.folder))


def test_a_zip_hangs_on_nothing_but_the_files(packed, tiny_model, tmp_path) -> None:
    copy = shutil.copytree(tiny_model.folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    (copy / ".hidden").write_text("not part of a model")
    pack(read_card(copy), tmp_path / "again.zip", lambda count: None)
    digests = {hashlib.sha256(p.read_bytes()).digest() for p in tmp_path.glob("*.zip")}
    assert len(digests) == 1


def test_damaged_weights_are_not_exported(tiny_model, tmp_path) -> None:
    copy = shutil.copytree(tiny_model.folder, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="damaged"):
        pack(read_card(copy), tmp_path / "no.zip", lambda count: None)


def test_a_model_without_a_folder_in_the_zip_is_one_too(tiny_model, tmp_path) -> None:
    shutil.make_archive(tmp_path / "flat", "zip", tiny_model.folder)
    copy = unpack(tmp_path / "flat.zip", tmp_path / "out")
    assert contents(copy.folder) == contents(tiny_model.folder)


def test_a_folder_is_copied(tiny_model, tmp_path) -> None:
    assert inspect(tiny_model.folder, SPEC, None)[:2] == ("tiny", "1.0.0")
    out = tmp_path / "out"
    assert contents(unpack(tiny_model.folder, out).folder) == contents(tiny_model.folder)
    with pytest.raises(ModelError, match=r"is no model: it has no model\.json"):
        inspect(tmp_path, SPEC, None)


@pytest.mark.parametrize(
    "name",
    ["../evil.txt", "m/../../evil.txt", "/etc/evil", "C:/evil", "m\\..\\evil", "m/.evil",
     "..\\evil"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(forge, tmp_path, name) -> None:
    path = forge((name, b"evil"))
    for look in (lambda: inspect(path, SPEC, None), lambda: unpack(path, tmp_path / "out")):
        with pytest.raises(ModelError, match="is no plain name"):
            look()
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(forge, kind) -> None:
    with pytest.raises(ModelError, match="is a link"):
        inspect(forge(("m/link", b"/etc/passwd"), kind=kind), SPEC, None)


def test_other_contents_are_refused(forge, card) -> None:
    with pytest.raises(ModelError, match="holds 2 models"):
        inspect(forge(("n/model.json", card)), SPEC, None)
    with pytest.raises(ModelError, match="outside of the model's folder"):
        inspect(forge(("n/notes.txt", b"")), SPEC, None)
    with pytest.raises(ModelError, match=r"lacks model\.safetensors"):
        inspect(forge(weights=None), SPEC, None)
    with pytest.raises(ModelError, match="two files of one name"):
        inspect(forge(("m/Model.safetensors", b"")), SPEC, None)
    with pytest.raises(ModelError, match="holds 202 files"):
        inspect(forge(*((f"m/{n}", b"") for n in range(200))), SPEC, None)


def test_a_zip_without_a_model_is_refused(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("notes.txt", "nothing")
    with pytest.raises(ModelError, match=r"holds no model: it has no model\.json"):
        inspect(tmp_path / "x.zip", SPEC, None)


def test_what_swells_is_refused(forge, tmp_path) -> None:
    path = forge(("m/bomb", bytes(archive.HARMLESS_BYTES)))
    assert path.stat().st_size < 5_000_000
    with pytest.raises(ModelError, match="would swell"):
        unpack(path, tmp_path / "out")


def test_a_size_that_is_not_the_declared_one_is_refused(forge, tmp_path) -> None:
    path = forge(("m/notes.txt", b"x" * 5000))
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        assert file.getinfo("m/notes.txt").file_size == 5000
    lie = raw.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(lie)
    with pytest.raises(ModelError, match="damaged"):
        unpack(path, tmp_path / "out")


def test_damage_is_noticed(packed, tmp_path) -> None:
    whole = packed.read_bytes()
    packed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="damaged, or no zip file"):
        inspect(packed, SPEC, None)
    packed.write_bytes(whole[:2000] + bytes(100) + whole[2100:])
    with pytest.raises(ModelError, match="damaged"):
        unpack(packed, tmp_path / "out")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ModelError, match="no zip file"):
        inspect(tmp_path / "text.zip", SPEC, None)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", json.dumps({"id": "x"}).encode()])
def test_a_card_that_says_nothing_is_refused(tmp_path, content) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("m/model.json", content)
        file.writestr("m/model.safetensors", b"")
    with pytest.raises(ModelError, match="damaged, or no zip"):
        inspect(tmp_path / "x.zip", SPEC, None)
