"""What tests of Processing algorithms run them with."""

import numpy as np
from conftest import DATA
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsFeature,
    QgsGeometry,
    QgsPointXY,
    QgsProcessingAlgorithm,
    QgsProcessingFeedback,
    QgsRasterLayer,
    QgsVectorLayer,
)

TILE = str(DATA / "terramind_l2a.tif")


def algorithm(name) -> QgsProcessingAlgorithm:
    return QgsApplication.processingRegistry().createAlgorithmById(f"mmearth:{name}")


class Feedback(QgsProcessingFeedback):
    """Keeps what is said, and cancels if told to."""

    def __init__(self, cancel_at=101):
        super().__init__()
        self.said, self.stages = [], []
        self.cancel_at = cancel_at
        self.progressChanged.connect(self.look)

    def look(self, percent):
        if percent >= self.cancel_at:
            self.cancel()

    def setProgressText(self, text):
        self.stages.append(text)

    def pushInfo(self, text):
        self.said.append(text)

    def pushWarning(self, text):
        self.said.append(text)


def make_features(folder, side=40, bands=4, name="features.tif") -> str:
    """Write a raster of features over the ground of the tile; random, but always the same."""
    path, tile = folder / name, gdal.Open(TILE)
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), side, side, bands, gdal.GDT_Float32)
    dataset.SetProjection(tile.GetProjection())
    left, _, _, top, _, _ = tile.GetGeoTransform()
    dataset.SetGeoTransform((left, 20, 0, top, 0, -20))
    random = np.random.default_rng(0)
    for band in range(1, bands + 1):
        dataset.GetRasterBand(band).WriteArray(random.normal(size=(side, side)))
    return str(path)


def make_places(features, *pixels, kind="Point") -> QgsVectorLayer:
    """Make a layer in memory with a place in the middle of each pixel (row, column)."""
    raster = QgsRasterLayer(features, "features")
    layer = QgsVectorLayer(f"{kind}?crs={raster.crs().authid()}", "places", "memory")
    step, corner = raster.rasterUnitsPerPixelX(), raster.extent()
    rows = []
    for row, column in pixels:
        x, y = corner.xMinimum() + (column + 0.5) * step, corner.yMaximum() - (row + 0.5) * step
        geometry = QgsGeometry.fromPointXY(QgsPointXY(x, y))
        rows.append(QgsFeature())
        rows[-1].setGeometry(geometry if kind == "Point" else geometry.buffer(1.2 * step, 8))
    assert layer.dataProvider().addFeatures(rows)[0]
    layer.updateExtents()
    return layer


def wanted(name, folder, **others):
    """Return the least that an algorithm needs, under its own names of INPUT and OUTPUT."""
    parameters = {"INPUT": TILE, "OUTPUT": "TEMPORARY_OUTPUT"}
    if name == "similarity":
        features = make_features(folder)
        parameters.update(INPUT=features, REFERENCES=make_places(features, (3, 5)))
    if name == "disturbance":
        parameters["AFTER"] = make_later(folder)
    names = {key: getattr(algorithm(name), key) for key in ("INPUT", "OUTPUT")}
    return {names.get(key, key): value for key, value in {**parameters, **others}.items()}


def output_of(name, result):
    """Return the map among an algorithm's results."""
    return result[algorithm(name).OUTPUT]


def make_later(folder, scene=TILE, band_factor=3) -> str:
    """Write a scene as it may look later: a square in its middle has other reflectances."""
    path = str(folder / "later.tif")
    gdal.Translate(path, scene)
    dataset = gdal.Open(path, gdal.GA_Update)
    for index in range(1, dataset.RasterCount + 1):
        band = dataset.GetRasterBand(index)
        values = band.ReadAsArray(40, 40, 20, 20) // band_factor
        band.WriteArray(values, 40, 40)
    del dataset
    return path
