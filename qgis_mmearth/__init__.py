"""MMEarth for QGIS: land-cover and forest maps from satellite images.

Inside QGIS this file is not run; the one above it is (see there).
"""
