"""The Processing provider: the plugin in the toolbox, in models, in batch and in qgis_process."""
