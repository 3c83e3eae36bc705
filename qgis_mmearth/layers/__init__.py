"""From QGIS layers to what the backend reads, and from its results back to layers."""
