"""Life of the plugin: what is added to QGIS when it is switched on, and removed when off.

Nothing is imported or started before it is needed: a plugin that slows the start of QGIS is
switched off.
"""

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QCoreApplication, Qt, QTranslator
from qgis.PyQt.QtGui import QIcon

from . import paths
from .compat import QAction

MENU = "&MMEarth"


class MMEarthPlugin:
    """The plugin, as QGIS sees it."""

    def __init__(self, iface):
        self.iface = iface
        self.provider = None
        self.dock = None
        self.models = None
        self.pretraining = None
        self._actions = []
        self._options = None
        self._translator = self._translate()

    def initProcessing(self):  # noqa: N802
        """Add the Processing provider; all that ``qgis_process`` calls."""
        from .processing.provider import MMEarthProvider

        self.provider = MMEarthProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self):  # noqa: N802
        """Add the provider, the menu, the toolbar icon and the settings page."""
        self.initProcessing()
        icon = QIcon(str(paths.ICONS / "mmearth.svg"))
        panel = self._add_action("mmearthPanel", icon, self.tr("MMEarth panel"), self.toggle_dock)
        panel.setCheckable(True)
        self.iface.addToolBarIcon(panel)
        self._add_action("mmearthModels", None, self.tr("Models…"), self.open_models)
        self._add_action(
            "mmearthPretrain", None, self.tr("Pretrain an encoder…"), self.open_pretraining
        )
        self._add_action("mmearthSettings", None, self.tr("Settings…"), self.open_settings)
        self._add_action("mmearthHelp", None, self.tr("Help"), self.open_help)
        from .gui.settings_page import SettingsPageFactory

        self._options = SettingsPageFactory()
        self.iface.registerOptionsWidgetFactory(self._options)
        from . import shared

        shared.events.pretraining_told.connect(self._show_pretraining)

    def unload(self):
        """Remove all of it, and end the backend."""
        if self.provider:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
        for action in self._actions:
            self.iface.removePluginMenu(MENU, action)
            self.iface.removeToolBarIcon(action)
            action.deleteLater()
        self._actions.clear()
        from . import shared

        if self._options:
            self.iface.unregisterOptionsWidgetFactory(self._options)
            self._options = None
            shared.events.pretraining_told.disconnect(self._show_pretraining)
        if self.pretraining:
            self.iface.removeDockWidget(self.pretraining)
            self.pretraining.deleteLater()
            self.pretraining = None
        if self.models:
            self.models.shut_down()
            self.models.deleteLater()
            self.models = None
        if self.dock:
            self.dock.shut_down()
            self.iface.removeDockWidget(self.dock)
            self.dock.deleteLater()
            self.dock = None
        shared.forget_backend()
        if self._translator:
            QCoreApplication.removeTranslator(self._translator)

    def toggle_dock(self, shown=True):
        """Show or hide the panel; it is made the first time."""
        if self.dock is None:
            from .gui.dock import MMEarthDock

            self.dock = MMEarthDock(self.iface)
            self.dock.models_asked.connect(self.open_models)
            self.iface.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)
            self.dock.visibilityChanged.connect(self._actions[0].setChecked)
        self.dock.setUserVisible(shown)

    def open_models(self):
        """Show the window of models; it is made the first time."""
        if self.models is None:
            from .gui.model_manager import ModelManager

            self.models = ModelManager(self.iface)
        self.models.open_up()

    def open_pretraining(self):
        """Open the window that begins a pretraining."""
        from .gui.pretraining import open_window

        open_window()

    def build_on(self, model_id):
        """Show the panel's tab "Teach" with a model chosen to build on."""
        self.toggle_dock()
        self.dock.build_on(model_id)

    def _show_pretraining(self, told):
        """Show how far a pretraining is, in a panel that is made the first time."""
        if self.pretraining is None:
            from .gui.pretraining import PretrainingDock

            self.pretraining = PretrainingDock(self.iface)
            self.pretraining.build_asked.connect(self.build_on)
            self.iface.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, self.pretraining)
        self.pretraining.tell(told)

    def open_settings(self):
        """Open QGIS's options at the plugin's page."""
        from .gui.settings_page import PAGE

        self.iface.showOptionsDialog(self.iface.mainWindow(), PAGE)

    def open_help(self):
        """Open the manual."""
        from .gui.help import open_manual

        open_manual()

    def tr(self, text):
        """Translate."""
        return QCoreApplication.translate("MMEarth", text)

    def _add_action(self, name, icon, text, slot):
        action = QAction(icon or QIcon(), text, self.iface.mainWindow())
        action.setObjectName(name)
        action.triggered.connect(slot)
        self.iface.addPluginToMenu(MENU, action)
        self._actions.append(action)
        return action

    def _translate(self):
        """Install the translation for QGIS's language, if there is one."""
        locale = QgsApplication.instance().locale()
        file = paths.GUI.parent / "i18n" / f"qgis_mmearth_{locale}.qm"
        if not file.exists():
            return None
        translator = QTranslator()
        translator.load(str(file))
        QCoreApplication.installTranslator(translator)
        return translator
