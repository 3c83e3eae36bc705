"""The first question of the panel: what do you want to map?"""

from typing import Iterable, NamedTuple, Optional, Tuple

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QCoreApplication, QObject, pyqtSignal
from qgis.PyQt.QtWidgets import QButtonGroup, QGridLayout, QLabel, QPushButton, QWidget

from ..link.catalog import Product
from . import disturbance

COLUMNS = 2


class Goal(NamedTuple):
    """Something that people want to map.

    ``words`` is the sentence that says what comes out; it holds the number of classes.
    """

    id: str
    title: str
    product: str
    outputs: Tuple[str, ...]
    words: str


GOALS = (
    Goal(
        "landcover",
        "Land cover",
        "landcover",
        ("classes", "table"),
        "You get a map of {} classes in their colours, and the area of each in hectares.",
    ),
    Goal(
        "treemask",
        "Tree mask",
        "treemask",
        ("classes", "table"),
        "You get a map of trees and everything else, and the area of both in hectares.",
    ),
    Goal(
        "treedensity",
        "Tree density",
        "treemask",
        ("density", "density_cells", "table"),
        "You get tree cover in percent of each pixel and of cells of {} m, and the area of trees "
        "in hectares.",
    ),
)
NO_CELLS = "You get tree cover in percent of each pixel, and the area of trees in hectares."
IN_DEGREES = "Cells need rasters in metres, such as UTM."
ANY_GOAL = "You get a map of {} classes in their colours, and the area of each in hectares."


class Goals(QObject):
    """Buttons, of which one is pressed at most, and a line that says what comes out."""

    chosen = pyqtSignal()
    """The user has pressed one."""
    disturbance_asked = pyqtSignal()
    """The user wants to compare dates."""

    def __init__(self, widget: QWidget, label: QLabel) -> None:
        """Fill a widget.

        Args:
            widget: empty; takes the buttons.
            label: says what comes out.
        """
        super().__init__(widget)
        self._label = label
        layout = QGridLayout(widget)
        layout.setContentsMargins(0, 0, 0, 0)
        for column in range(COLUMNS):
            layout.setColumnStretch(column, 1)
        self._group = QButtonGroup(self)
        for number, goal in enumerate(GOALS):
            button = QPushButton(self.tr(goal.title), widget)
            button.setObjectName(f"{goal.id}Button")
            button.setCheckable(True)
            self._group.addButton(button, number)
            layout.addWidget(button, number // COLUMNS, number % COLUMNS)
        self.disturbance = QPushButton(self.tr("Forest disturbance…"), widget)
        self.disturbance.setObjectName("disturbanceButton")
        self.disturbance.setToolTip(
            self.tr("Compare the rasters of two dates ticked above; opens a window of its own")
        )
        layout.addWidget(self.disturbance, len(GOALS) // COLUMNS, len(GOALS) % COLUMNS)
        self.disturbance.clicked.connect(lambda _checked: self.disturbance_asked.emit())
        self._group.buttonClicked.connect(lambda _button: self.chosen.emit())
        registry = QgsApplication.processingRegistry()
        for signal in (registry.providerAdded, registry.providerRemoved):
            signal.connect(self._refresh_disturbance)
        self._refresh_disturbance()

    def shut_down(self) -> None:
        """Listen no more."""
        registry = QgsApplication.processingRegistry()
        for signal in (registry.providerAdded, registry.providerRemoved):
            signal.disconnect(self._refresh_disturbance)

    def current(self) -> Optional[Goal]:
        """Return the goal whose button is pressed, if any."""
        number = self._group.checkedId()
        return GOALS[number] if number >= 0 else None

    def offer(self, products: Iterable[str]) -> None:
        """Let only those goals be chosen that an installed model has a product for."""
        known = set(products)
        for number, goal in enumerate(GOALS):
            button = self._group.button(number)
            button.setEnabled(goal.product in known)
            missing = self.tr("No installed model maps this; press “Models…” to get one.")
            button.setToolTip("" if button.isEnabled() else missing)

    def show_product(self, product: str) -> None:
        """Press the button of a product; the one that is pressed stays, if it is of that product.

        Of products that no button stands for, none is pressed.
        """
        now = self.current()
        if now is not None and now.product == product:
            return
        self._group.setExclusive(False)
        found = next((goal for goal in GOALS if goal.product == product), None)
        for number, goal in enumerate(GOALS):
            self._group.button(number).setChecked(goal is found)
        self._group.setExclusive(True)

    def say(self, product: Optional[Product], cell_m: Optional[float]) -> None:
        """Say what comes out of a product.

        Args:
            product: None if no model is installed.
            cell_m: side of a cell of a density; 0 if none are wanted, None if there can be none.
        """
        goal = self.current()
        if product is None:
            self._label.clear()
        elif goal is not None and "density" in goal.outputs:
            words = goal.words if cell_m else NO_CELLS
            more = f" {self.tr(IN_DEGREES)}" if cell_m is None else ""
            self._label.setText(self.tr(words).format(f"{cell_m or 0:g}") + more)
        else:
            words = goal.words if goal else ANY_GOAL
            self._label.setText(self.tr(words).format(len(product.classes)))

    def _refresh_disturbance(self, *_args) -> None:
        self.disturbance.setVisible(disturbance.is_there())

    def tr(self, text: str) -> str:
        """Translate."""
        return QCoreApplication.translate("MMEarth", text)
