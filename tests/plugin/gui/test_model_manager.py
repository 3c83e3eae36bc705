"""The window of models, used as a person would: look, download, import, export, remove."""

import contextlib
import importlib.util
import re
import shutil
import subprocess
import threading
import zipfile

import pytest
from conftest import EMBEDDED, INSTALLED, ROOT
from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QEvent, QObject, QPoint, Qt, QUrl, pyqtSlot
from qgis.PyQt.QtGui import QDesktopServices, QTextCursor, QTextDocument
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QFileDialog

from qgis_mmearth import shared
from qgis_mmearth.gui import model_files
from qgis_mmearth.gui.dock import MMEarthDock
from qgis_mmearth.gui.model_manager import ModelManager
from qgis_mmearth.gui.words import color
from qgis_mmearth.link.environment import Environment
from qgis_mmearth.link.errors import LinkError

ENCODER = "mmearth-all-mod-atto-1m-64-uncertainty-56-8"
BACKWARD = QTextDocument.FindFlag.FindBackward


class Opener(QObject):
    """Takes the place of the desktop's file manager."""

    def __init__(self):
        super().__init__()
        self.urls = []

    @pyqtSlot(QUrl)
    def open(self, url):
        """Remember what is to be opened."""
        self.urls.append(url)


@pytest.fixture
def files_opened():
    """The files and folders that were handed to the desktop."""
    opener = Opener()
    QDesktopServices.setUrlHandler("file", opener, "open")
    yield opener.urls
    QDesktopServices.unsetUrlHandler("file")


@pytest.fixture
def home(kept_home):
    """Starting a backend takes longer than most of these tests."""
    return kept_home


@pytest.fixture
def own_backend(kept_home):
    """A backend that knows nothing of other tests, and that none of them knows."""
    shared.forget_backend()
    yield
    shared.forget_backend()
    for name in ("downloads", "jobs", "work"):
        shutil.rmtree(kept_home / name, ignore_errors=True)


@pytest.fixture
def open_window(iface, home):
    """Return a function that opens the window; it is closed at the end."""
    windows = []

    def open_it() -> ModelManager:
        window = ModelManager(iface)
        windows.append(window)
        window.open_up()
        return window

    yield open_it
    for window in windows:
        window.shut_down()
        window.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture
def window(open_window, wait):
    """The window, with a backend that has told what is published."""
    window = open_window()
    wait(lambda: window._published is not None)
    return window


@pytest.fixture
def published_file(tmp_path):
    """A file of weights of a published encoder."""
    script = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from pathlib import Path\n"
        "from goldens import mmearth_file; print(mmearth_file(Path(sys.argv[3])))"
    )
    paths = [str(ROOT / "tests" / "backend"), str(ROOT / "backend"), str(tmp_path)]
    command = [str(INSTALLED), "-c", script, *paths]
    return subprocess.check_output(command, text=True).strip()


@pytest.fixture
def server(own_backend, published_file, tmp_path, monkeypatch):
    """A publisher's server on this machine, in the list of what is published."""
    place = ROOT / "tests" / "backend" / "downloads.py"
    spec = importlib.util.spec_from_file_location("downloads", place)
    downloads = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(downloads)
    with open(published_file, "rb") as file:
        body = file.read()
    with downloads.serving(body) as server:
        own = (ROOT / "backend" / "mmearth" / "models" / "store" / "published.toml").read_text(
            "utf-8"
        )
        changed = re.sub(r'url = ".*checkpoint-199.pth"', f'url = "{server.url}"', own, count=1)
        (tmp_path / "published.toml").write_text(changed, "utf-8")
        monkeypatch.setenv("MMEARTH_PUBLISHED", str(tmp_path / "published.toml"))
        yield server


def children(item):
    return [item.child(row) for row in range(item.childCount()) if not item.child(row).isHidden()]


def listed(window, group=0):
    """Return what is listed of a group, behind its family if it has one."""
    found = []
    for child in children(window.modelsTree.topLevelItem(group)):
        found += [f"{child.text(0)}: {row.text(0)}" for row in children(child)]
        found += [child.text(0)] * (not child.childCount())
    return found


def said(window):
    return re.sub(r"<[^>]+>", "", window.messageLabel.text())


def idle(window):
    return lambda: not window.work.busy


def card(window):
    return window.cardBrowser.toPlainText()


class TestWithoutBackend:
    def test_what_is_installed_is_listed_all_the_same(self, own_backend, open_window, monkeypatch):
        monkeypatch.delenv("MMEARTH_PYTHON")
        window = open_window()
        assert "not installed" in window.backendLabel.text()
        assert window.backendButton.text() == "Install backend"
        assert len(listed(window)) == len(EMBEDDED)
        assert listed(window)[0] == "Sentinel-2 land cover\nSentinel-2: maps land cover, tree mask"
        assert listed(window, 1) == ["They are listed once the backend runs."]
        assert "Nine classes of land cover" in card(window)
        for button in (window.importButton, window.exportButton, window.removeButton):
            assert not button.isEnabled()


class TestCards:
    def test_an_installed_model(self, window):
        text = card(window)
        for words in (
            "Sentinel-2 land cover 1.1.0", "■ Water", "Flooded vegetation", "L1C or L2A", "10 m",
            "B8A narrow near infrared", "CC-BY-SA-4.0", "Dynamic World", "0.3 MB", "Known limits",
            "0.916 (validation places, against the teacher)", "landcover-s2",
        ):  # fmt: skip
            assert words in text, words
        assert "#419bdf" in window.cardBrowser.toHtml()

    def test_what_came_with_the_plugin_stays(self, window):
        assert window.exportButton.isEnabled() and not window.removeButton.isEnabled()
        assert "came with the plugin" in window.removeButton.toolTip()

    def test_a_published_encoder(self, window):
        window.models.select("published", ENCODER)
        assert "Encoder, to be trained" in card(window)
        assert "arXiv:2405.02771" in card(window)
        assert "not for commercial use" in window.obtainLabel.text()
        assert not window.downloadButton.isEnabled()
        window.acceptCheck.click()
        assert window.downloadButton.isEnabled()
        window.models.select("published", "ssl4eo-resnet18-all-moco")
        assert not window.acceptCheck.isChecked() and not window.downloadButton.isEnabled()

    def test_one_that_the_user_has_to_obtain(self, window):
        window.models.select("published", "spectralearth-vits-mae")
        assert window.chooseButton.isVisible() and not window.downloadButton.isVisible()
        assert not window.acceptCheck.isVisible()
        assert "spec_ViTs_mae.pth" in window.obtainLabel.text()
        assert 'href="https://syncandshare.desy.de/' in window.obtainLabel.text()
        assert "202, from B001 to B224" in card(window)

    def test_searching(self, window):
        whole = len(listed(window, 1))
        window.searchEdit.setText("enmap")
        assert 0 < len(listed(window, 1)) < whole
        assert [text.partition("\n")[0] for text in listed(window)] == [
            "EnMAP surfaces of Potsdam (example)"
        ]
        assert all(text.startswith("SpectralEarth") for text in listed(window, 1))
        window.searchEdit.setText("tree mask")
        mapping = [m for m in shared.models() if any(p.id == "treemask" for p in m.products)]
        assert 1 < len(listed(window)) == len(mapping) and listed(window, 1) == []
        nothing = window.modelsTree.topLevelItem(2)
        assert nothing.isHidden()
        window.searchEdit.setText("no such words")
        assert not nothing.isHidden() and nothing.text(0) == "No model matches."
        assert all(window.modelsTree.topLevelItem(group).isHidden() for group in (0, 1))
        window.searchEdit.clear()
        assert nothing.isHidden() and len(listed(window, 1)) == whole

    def test_a_link_opens_outside_and_the_card_stays(self, window, files_opened):
        before = card(window)
        browser = window.cardBrowser
        browser.moveCursor(QTextCursor.MoveOperation.End)
        link = browser.document().find("landcover-s2", browser.textCursor(), BACKWARD)
        link = browser.document().find("landcover-s2", link, BACKWARD)  # the last is no link
        browser.setTextCursor(link)
        QApplication.processEvents()
        place = browser.cursorRect(link).center() - QPoint(8, 0)
        QTest.mouseClick(browser.viewport(), Qt.MouseButton.LeftButton, pos=place)
        assert [url.fileName() for url in files_opened] == ["landcover-s2"]
        assert card(window) == before

    def test_a_refresh_leaves_the_card_scrolled(self, window):
        window.resize(640, 400)
        QApplication.processEvents()
        bar = window.cardBrowser.verticalScrollBar()
        assert bar.maximum() > 0
        bar.setValue(bar.maximum())
        shared.events.models_changed.emit()
        assert bar.value() == bar.maximum()


class TestOwnModels:
    def test_from_import_to_removal(self, window, iface, own_model, home, wait):
        """The panel and Processing follow; nothing asks in a window of its own."""
        dock = MMEarthDock(iface)
        before = QApplication.topLevelWidgets()
        window.import_path(own_model)
        assert window.work.busy and window.progressBar.isVisible()
        assert not window.importButton.isEnabled() and window.cancelButton.isVisible()
        wait(idle(window))
        assert said(window).startswith("My &lt;own&gt; model is installed.")
        assert not window.progressBar.isVisible()
        assert window.models.selection() == ("installed", "own-model")
        assert "My <own> model" in card(window)
        texts = [dock.modelCombo.itemText(row) for row in range(dock.modelCombo.count())]
        assert "Tree mask · My <own> model" in texts
        assert sorted(processing_models()) == sorted([*EMBEDDED, "own-model"])
        assert window.removeButton.isEnabled()
        window.removeButton.click()
        assert "deletes the files of My <own> model" in window.questionLabel.text()
        window.keepButton.click()
        assert not window.questionActions.isVisible() and window.installedActions.isVisible()
        assert (home / "models" / "own-model" / "model.json").is_file()
        window.removeButton.click()
        window.yesButton.click()
        wait(idle(window))
        assert "was removed" in said(window)
        assert not (home / "models" / "own-model").exists()
        products = sum(len(model.products) for model in shared.models())
        assert sorted(processing_models()) == EMBEDDED and dock.modelCombo.count() == products
        assert not [w for w in QApplication.topLevelWidgets() if w.isModal() and w not in before]
        dock.shut_down()
        dock.deleteLater()

    def test_a_refresh_does_not_answer_a_question(self, window, own_model, home, wait):
        window.import_path(own_model)
        wait(idle(window))
        window.removeButton.click()
        window._backend_changed()
        shared.events.models_changed.emit()
        assert window.questionActions.isVisible() and not window.removeButton.isVisible()
        window.models.select("installed", "landcover-s2")
        assert not window.questionActions.isVisible()
        assert (home / "models" / "own-model" / "model.json").is_file()

    def test_after_a_removal_the_neighbour_is_selected(self, window, own_model, wait):
        window.import_path(own_model)
        wait(idle(window))
        window.remove()
        wait(idle(window))
        assert window.models.selection() == ("installed", "landcover-s2")
        assert "Sentinel-2 land cover" in card(window) and "was removed" in said(window)

    def test_the_very_same_model_again_is_not_worth_a_word(self, window, own_model, wait):
        for _ in range(2):
            window.import_path(own_model)
            wait(idle(window))
            assert said(window) == "My &lt;own&gt; model is installed."
            assert not window.questionActions.isVisible()

    def test_a_newer_version_replaces_only_after_asking(
        self, window, own_model, tmp_path, home, wait
    ):
        window.import_path(own_model)
        wait(idle(window))
        path = tmp_path / "own-model" / "model.json"
        old, new = '"version": "1.1.0"', '"version": "1.2.0"'
        path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
        kept = home / "models" / "own-model" / "model.json"

        window.import_path(str(path.parent))
        wait(idle(window))
        assert window.questionActions.isVisible() and window.yesButton.text() == "&Replace"
        assert "Version 1.2.0 takes the place of My <own> model" in window.questionLabel.text()
        assert old in kept.read_text("utf-8")
        window.keepButton.click()
        assert not window.questionActions.isVisible() and window.installedActions.isVisible()

        window.import_path(str(path.parent))
        wait(idle(window))
        window.yesButton.click()
        wait(idle(window))
        assert said(window) == "My &lt;own&gt; model is installed."  # no warning afterwards
        assert new in kept.read_text("utf-8") and not window.questionActions.isVisible()

    def test_a_folder(self, window, own_model, tmp_path, home, wait):
        window.import_path(str(tmp_path / "own-model"))
        wait(idle(window))
        assert (home / "models" / "own-model" / "model.safetensors").is_file()

    def test_export_can_be_imported(self, window, own_model, tmp_path, home, wait):
        window.import_path(own_model)
        wait(idle(window))
        target = tmp_path / "out" / "model.zip"
        target.parent.mkdir()
        window.export(str(target))
        wait(idle(window))
        assert said(window).startswith("Written to model.zip in out (")
        assert any(name.endswith("model.json") for name in zipfile.ZipFile(target).namelist())
        window.remove()
        wait(idle(window))
        window.import_path(str(target))
        wait(idle(window))
        assert (home / "models" / "own-model" / "model.json").is_file()

    def test_a_damaged_file_is_said_inline(self, window, tmp_path, wait):
        damaged = tmp_path / "damaged.zip"
        damaged.write_bytes(b"PK\3\4 and no more")
        window.import_path(str(damaged))
        wait(idle(window))
        assert "damaged.zip" in said(window)
        assert color("error", window.messageLabel) in window.messageLabel.text()
        assert "<i>" in window.messageLabel.text()  # what to do about it
        assert not window.extraButton.isVisible()

    @pytest.mark.parametrize(
        "typed, kind, written",
        [
            ("out/a.zip", "Model folder (*.zip)", "out/a.zip"),
            ("out/a.zip", "ONNX (*.onnx)", "out/a.onnx"),
            ("out/a-1.0", "ONNX (*.onnx)", "out/a-1.0.onnx"),
            ("out/a-1.0", "Model folder (*.zip)", "out/a-1.0.zip"),
            ("out/a.onnx", "Model folder (*.zip)", "out/a.onnx"),
        ],
    )
    def test_the_chosen_type_sets_the_ending(self, window, monkeypatch, typed, kind, written):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (typed, kind))
        assert model_files.ask_for_target(window, "a") == written

    def test_a_file_of_the_ending_that_is_set_is_asked_about(self, window, monkeypatch, tmp_path):
        (tmp_path / "a.onnx").write_bytes(b"kept")
        asked, answers = [], [str(tmp_path / "a.zip"), ""]

        def answer(_parent, _title, path, _kinds, kind):
            asked.append((path, kind))
            return answers.pop(0), "ONNX (*.onnx)"

        monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
        assert model_files.ask_for_target(window, "a") == ""
        assert asked == [
            ("a.zip", "Model folder (*.zip)"),
            (str(tmp_path / "a.onnx"), "ONNX (*.onnx)"),
        ]

    def test_a_file_of_another_kind_is_said_at_once(self, window):
        window.import_path("scene.tif")
        assert "scene.tif is no model" in said(window) and not window.work.busy


class TestPublished:
    def test_they_are_listed_when_the_backend_runs_already(self, open_window, wait):
        """The panel is opened first, and starts it."""
        shared.backend().client()
        window = open_window()
        wait(lambda: window._published is not None)
        assert len(listed(window, 1)) > 30
        assert "MMEarth: MMEarth64, atto, all modalities\nSentinel-2: 12 bands" in listed(window, 1)

    def test_what_changes_while_it_is_asked_for_is_asked_for_again(self, window, wait):
        window._ask_for_published()
        first = window._asking
        shared.events.models_changed.emit()
        wait(lambda: window._asking not in (first, None))
        wait(lambda: window._asking is None)

    def test_a_file_may_come_before_the_list(self, open_window, tmp_path, wait):
        path = tmp_path / "spec_ViTs_mae.pth"
        path.write_bytes(b"")
        window = open_window()
        window.import_path(str(path))
        assert window._published is None and "asking" in window.whichCombo.currentText()
        assert not window.startImportButton.isEnabled()
        wait(lambda: window._published is not None)
        assert window.whichCombo.currentText() == "SpectralEarth: Spectral ViT-S, MAE"
        assert window.startImportButton.isEnabled()

    def test_download(self, server, open_window, home, wait):
        window = open_window()
        wait(lambda: window._published is not None)
        window.models.select("published", ENCODER)
        window.acceptCheck.click()
        window.levelCombo.setCurrentIndex(1)
        window.downloadButton.click()
        wait(idle(window))
        model_id = f"{ENCODER}-l2a"
        assert "is installed" in said(window)
        assert window.models.selection() == ("installed", model_id)
        assert "127.0.0.1" in card(window) and "Encoder, to be trained" in card(window)
        window.models.select("published", ENCODER)
        assert said(window) == ""  # it was about another one
        wait(lambda: any("\nSentinel-2: 12 bands, installed" in text for text in listed(window, 1)))
        assert model_id not in processing_models()  # it maps nothing yet

    def test_cancel(self, server, open_window, home, wait):
        server.faults.append("stall")
        window = open_window()
        wait(lambda: window._published is not None)
        window.models.select("published", ENCODER)
        window.acceptCheck.click()
        window.downloadButton.click()
        wait(lambda: "Downloading" in said(window))
        window.close()
        assert window.work.busy  # it goes on
        window.open_up()
        window.import_path("other.zip")
        assert "Downloading" in said(window)  # one at a time
        window.cancelButton.click()
        wait(idle(window))
        assert said(window) == "Cancelled. Nothing was changed."
        assert not list((home / "models").glob("*/model.json"))

    def test_a_file_that_the_user_has(self, window, published_file, home, wait):
        """Its name tells which one it is."""
        window.import_path(published_file)
        assert window.importForm.isVisible() and not window.work.busy
        assert not window.sensorCombo.isVisible() and not window.startImportButton.isEnabled()
        titles = [window.whichCombo.itemText(row) for row in range(window.whichCombo.count())]
        window.whichCombo.setCurrentIndex(titles.index("MMEarth: MMEarth64, atto, all modalities"))
        assert window.fileLevelCombo.isVisible()
        window.startImportButton.click()
        wait(idle(window))
        assert "is installed" in said(window) and not window.importForm.isVisible()
        assert (home / "models" / f"{ENCODER}-l1c" / "model.json").is_file()

    def test_the_name_of_a_file_tells_what_it_is(self, window, tmp_path):
        path = tmp_path / "spec_ViTs_mae.pth"
        path.write_bytes(b"")
        window.import_path(str(path))
        assert window.whichCombo.currentText() == "SpectralEarth: Spectral ViT-S, MAE"
        assert window.startImportButton.isEnabled() and not window.fileLevelCombo.isVisible()
        window.dismissButton.click()
        assert not window.importForm.isVisible() and window.installedActions.isVisible()


class TestOnnx:
    def test_sensor_and_bands_are_asked_for_inline(self, window, tmp_path):
        path = tmp_path / "roofs.onnx"
        path.write_bytes(b"no model")
        asked = []
        window.form.submitted.disconnect()
        window.form.submitted.connect(asked.append)
        window.import_path(str(path))
        assert window.sensorCombo.isVisible() and not window.bandsEdit.isVisible()
        window.startImportButton.click()
        told = {"sensor": None, "bands": [], "resolution_m": None}
        assert asked.pop() == {"source": str(path), **told}
        window.sensorCombo.setCurrentIndex(window.sensorCombo.findData("aerial-rgb"))
        assert window.bandsEdit.isVisible()
        assert window.bandsEdit.placeholderText().endswith("for example red green blue")
        window.bandsEdit.setText("red, green blue")
        window.resolutionSpin.setValue(0.25)
        window.nameEdit.setText(" roofs ")
        window.startImportButton.click()
        told = {
            "sensor": "aerial-rgb",
            "bands": ["red", "green", "blue"],
            "resolution_m": 0.25,
            "id": "roofs",
        }
        assert asked.pop() == {"source": str(path), **told}

    def test_a_file_that_is_none_is_said(self, window, tmp_path, wait):
        path = tmp_path / "roofs.onnx"
        path.write_bytes(b"no model")
        window.import_path(str(path))
        window.startImportButton.click()
        wait(idle(window))
        assert color("error", window.messageLabel) in window.messageLabel.text()
        assert window.importForm.isVisible()  # to correct what was said

    def test_support_is_offered_when_it_lacks(self, window, wait):
        """Here the backend runs in a Python of the user's own, which nothing is installed into."""
        assert not window.extraButton.isVisible()
        lacking = LinkError("ONNX files cannot be read yet.", code="needs_extra")
        window.work.failed.emit(lacking)
        assert window.extraButton.isVisible()
        window.extraButton.click()
        wait(idle(window))
        assert "Python of your own" in said(window) and "pip install" in said(window)
        assert not window.extraButton.isVisible()

    def test_the_offer_goes_with_its_message(self, window):
        window.work.show_error(lacking := LinkError("ONNX cannot be read.", code="needs_extra"))
        window.work.failed.emit(lacking)
        assert window.extraButton.isVisible()
        window.models.select("published", ENCODER)
        assert said(window) == "" and not window.extraButton.isVisible()

    def test_installing_support_ends_no_job(self, window, tmp_path, monkeypatch, wait):
        """The running backend, which does not see new packages, goes once its job is done."""
        monkeypatch.setattr(Environment, "install_extra", lambda *_: None)  # needs the network
        path = tmp_path / "roofs.onnx"
        path.write_bytes(b"no model")
        window.import_path(str(path))
        window.startImportButton.click()
        wait(idle(window))
        old, jobs = shared.backend(), threading.Event()
        thread = threading.Thread(target=hold, args=(old, jobs))
        thread.start()
        try:
            wait(lambda: old.busy)
            window.extraButton.show()
            window.extraButton.click()
            wait(idle(window))
            assert "when the running job is done" in said(window)
            assert shared.backend() is old and old.running
        finally:
            jobs.set()
            thread.join()
        assert shared.backend() is not old and not old.running
        window.extraButton.click()
        wait(idle(window))
        assert color("error", window.messageLabel) in window.messageLabel.text()  # tried again


def hold(backend, over):
    """Keep a backend busy with a job that ends when it is told to."""
    spec = {"kind": "export", "model": "landcover-s2", "target": str(over)}
    with contextlib.suppress(LinkError):
        backend.run_job(spec, lambda _job: over.wait(), over.is_set)


def processing_models():
    found = QgsApplication.processingRegistry().algorithmById("mmearth:segment")
    return found.parameterDefinition("MODEL").options()


def test_the_panel_and_the_menu_open_it(plugin, home):
    plugin._actions[0].trigger()
    try:
        plugin.dock.modelsButton.click()
        assert plugin.models.isVisible() and not plugin.models.isModal()
        plugin.models.close()
        next(a for a in plugin._actions if a.objectName() == "mmearthModels").trigger()
        assert plugin.models.isVisible()
        plugin.models.close()
    finally:
        plugin._actions[0].trigger()


def test_every_button_can_be_told_by_its_name(open_window):
    window = open_window()
    from qgis.PyQt.QtWidgets import QAbstractButton, QComboBox, QLabel, QLineEdit

    buddies = {label.buddy() for label in window.findChildren(QLabel)}
    for widget in window.findChildren((QAbstractButton, QComboBox, QLineEdit)):
        own = widget.objectName() and not widget.objectName().startswith("qt_")
        if own:
            named = widget.accessibleName() or widget in buddies
            assert named or (isinstance(widget, QAbstractButton) and widget.text())
