"""How a model is to be taught: the protocol in plain words, and what the advanced may set."""

from typing import Any, Dict

from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..teaching import LOSSES, PROTOCOLS
from .words import tr

QUICK = PROTOCOLS[0]
PLAIN_LOSS = next(iter(LOSSES))


class TeachOptions(QObject):
    """Reads the widgets below the labels."""

    changed = pyqtSignal()
    """Something that a plan hangs on is set otherwise."""

    def __init__(self, form: Any) -> None:
        """Take over the widgets.

        Args:
            form: the tab, with ``quickRadio`` and what stands below it.
        """
        super().__init__(form)
        self._form = form
        radios = (form.quickRadio, form.adapterRadio, form.fullRadio)
        self._radios = dict(zip(PROTOCOLS, radios))  # noqa: B905 - QGIS's Python may be 3.9
        for value, title in LOSSES.items():
            form.lossCombo.addItem(tr(title), value)
        for radio in self._radios.values():
            radio.toggled.connect(self._protocol_changed)
        for spin in (form.validationSpin, form.teachOffsetSpin):
            spin.valueChanged.connect(self._tell)
        form.scratchCheck.toggled.connect(self._tell)
        form.modelNameEdit.editingFinished.connect(self._tell)
        self._protocol_changed()

    def fields(self) -> Dict[str, Any]:
        """Return the options as fields of a request."""
        form = self._form
        protocol = next(name for name, radio in self._radios.items() if radio.isChecked())
        quick = protocol == QUICK
        offset = form.teachOffsetSpin.value()
        stated = offset == form.teachOffsetSpin.minimum()
        return {
            "radiometry": None if stated else {"scale": None, "offset": offset},
            "protocol": protocol,
            "from_scratch": form.scratchCheck.isChecked() and not quick,
            "loss": PLAIN_LOSS if quick else form.lossCombo.currentData(),
            "validation": form.validationSpin.value() / 100,
            "epochs": None if quick else form.epochsSpin.value() or None,
            "seed": form.seedSpin.value(),
            "title": form.modelNameEdit.text().strip() or form.modelNameEdit.placeholderText(),
        }

    def choose_quick(self) -> None:
        """Choose the protocol that live mode goes by."""
        self._form.quickRadio.setChecked(True)

    def _protocol_changed(self, *_: Any) -> None:
        form, quick = self._form, self._form.quickRadio.isChecked()
        for widget in (form.lossLabel, form.lossCombo, form.epochsLabel, form.epochsSpin,
                       form.scratchCheck):  # fmt: skip
            widget.setEnabled(not quick)
        self._tell()

    def _tell(self, *_: Any) -> None:
        self.changed.emit()
