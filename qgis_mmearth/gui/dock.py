"""The panel: the rasters of a scene, and tabs for what can be done with them."""

from typing import Optional

from qgis.core import Qgis, QgsCoordinateReferenceSystem, QgsProject, QgsRasterLayer
from qgis.gui import QgsDockWidget
from qgis.PyQt import uic
from qgis.PyQt.QtCore import QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import QFileDialog, QMenu

from .. import paths
from ..layers import scenes
from .backend_bar import BackendBar
from .help import open_manual
from .layer_list import LayerList
from .map_panel import MapPanel
from .teach_panel import TeachPanel

FORM, _ = uic.loadUiType(str(paths.GUI / "dock.ui"))


class MMEarthDock(QgsDockWidget, FORM):
    """The panel ``MMEarthDock``."""

    models_asked = pyqtSignal()
    """The user wants to see, install or remove models."""

    def __init__(self, iface) -> None:
        super().__init__(iface.mainWindow())
        self.setupUi(self)
        self.iface = iface
        self.layers = LayerList(self.layersWidget)
        self.backend = BackendBar(self.backendLabel, self.backendButton)
        self.map = MapPanel(self, iface, self.layers, self.backend)
        self.teach = TeachPanel(iface, self.layers, self.backend)
        self.teachLayout.addWidget(self.teach)
        self._connect()
        self.layers.tick_only(self._first_raster())
        self.backend.start_if_installed()

    def shut_down(self) -> None:
        """Stop everything; called before the panel is removed."""
        self.map.shut_down()
        self.teach.shut_down()
        self.layers.close()
        self.backend.shut_down()

    def use_model(self, model_id: str) -> None:
        """Show the tab "Map" with an installed model chosen."""
        self.tabs.setCurrentWidget(self.mapTab)
        self.map.choose_model(model_id)

    def build_on(self, model_id: str) -> None:
        """Show the tab "Teach" with an installed model chosen to build on."""
        self.tabs.setCurrentWidget(self.teachTab)
        self.teach.choose_base(model_id)

    def open_sample(self) -> None:
        """Add the sample to the project, with its first scene ticked and in sight."""
        alone = not QgsProject.instance().mapLayers()
        scene = scenes.open_sample()[0]
        self.tabs.setCurrentWidget(self.mapTab)
        self.layers.tick_only(scene)
        # QGIS fits an empty map to the first layers, but only once it is back in its event loop.
        layer_id = scene.id()
        QTimer.singleShot(0, lambda: self._show_scene(layer_id, alone))
        words = self.tr("To compare two dates, tick only those of {}, and press “{}”.")
        message = words.format(scenes.TWO_DATES, self.map.goals.disturbance.text())
        self.map.status.push(message, Qgis.MessageLevel.Info)

    def _show_scene(self, layer_id: str, alone: bool) -> None:
        scene = QgsProject.instance().mapLayer(layer_id)
        if scene is None:  # removed meanwhile
            return
        if alone:
            crs = QgsCoordinateReferenceSystem(scenes.BOTH_PLACES)
            QgsProject.instance().setCrs(crs)
        self.iface.setActiveLayer(scene)
        self.iface.zoomToActiveLayer()

    def _connect(self) -> None:
        menu = QMenu(self.addButton)
        menu.addAction(self.tr("Raster files…"), self._add_files)
        menu.addAction(self.tr("Sentinel-2 product folder (.SAFE)…"), self._add_product)
        self.addButton.setMenu(menu)
        self.sampleButton.clicked.connect(lambda _checked: self.open_sample())
        self.modelsButton.clicked.connect(self.models_asked)
        self.teach.models_asked.connect(self.models_asked)
        self.teach.model_chosen.connect(self.use_model)
        self.tabs.currentChanged.connect(self._tab_changed)
        self.helpButton.clicked.connect(self._open_manual)
        self.settingsButton.clicked.connect(self._open_settings)

    def _tab_changed(self, _index: int) -> None:
        self.teach.set_active(self.tabs.currentWidget() is self.teachTab)

    def _open_manual(self) -> None:
        open_manual("teaching" if self.tabs.currentWidget() is self.teachTab else "")

    def _first_raster(self) -> Optional[QgsRasterLayer]:
        """Return the active layer if it is in the list, else the topmost raster."""
        rasters, active = self.layers.rasters(), self.iface.activeLayer()
        return active if active in rasters else next(iter(rasters), None)

    def _add_files(self) -> None:
        chosen, _ = QFileDialog.getOpenFileNames(self, self.tr("Raster files"))
        for path in chosen:
            self.layers.add_path(path)

    def _add_product(self) -> None:
        path = QFileDialog.getExistingDirectory(self, self.tr("Sentinel-2 product folder"))
        if path:
            self.layers.add_path(path)

    def _open_settings(self) -> None:
        from .settings_page import PAGE

        self.iface.showOptionsDialog(self.iface.mainWindow(), PAGE)
