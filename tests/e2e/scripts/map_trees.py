"""Inside QGIS: map the trees of a scene. Arguments: scene, result, a word for the log."""

import sys

import processing

import qgis_mmearth

scene, target, word = sys.argv[1:]
print(word, qgis_mmearth.__path__)
processing.run("mmearth:treemask", {"INPUT": [scene], "OUTPUT": target})
print("done")
