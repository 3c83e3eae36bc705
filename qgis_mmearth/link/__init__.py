"""The plugin's side of the backend: its environment, its process, and talking to it.

Nothing here needs QGIS, so all of it can be run and tested from any Python.
"""
