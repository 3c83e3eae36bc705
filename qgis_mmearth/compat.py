"""What differs between Qt 5 and Qt 6, and between QGIS 3.22 and 4."""

try:  # Qt 6
    from qgis.PyQt.QtGui import QAction
except ImportError:  # Qt 5
    from qgis.PyQt.QtWidgets import QAction

try:  # QGIS 3.36
    from qgis.core import Qgis

    FLAG_ADVANCED = Qgis.ProcessingParameterFlag.Advanced
    SOURCE_POINT = Qgis.ProcessingSourceType.VectorPoint
    SOURCE_POLYGON = Qgis.ProcessingSourceType.VectorPolygon
    SOURCE_RASTER = Qgis.ProcessingSourceType.Raster
    SOURCE_VECTOR = Qgis.ProcessingSourceType.VectorAnyGeometry
except AttributeError:
    from qgis.core import QgsProcessing, QgsProcessingParameterDefinition

    FLAG_ADVANCED = QgsProcessingParameterDefinition.Flag.FlagAdvanced
    SOURCE_POINT = QgsProcessing.SourceType.TypeVectorPoint
    SOURCE_POLYGON = QgsProcessing.SourceType.TypeVectorPolygon
    SOURCE_RASTER = QgsProcessing.SourceType.TypeRaster
    SOURCE_VECTOR = QgsProcessing.SourceType.TypeVectorAnyGeometry

try:  # newer QGIS
    from qgis.core import Qgis

    RASTER_WRITTEN = Qgis.RasterFileWriterResult.Success
except AttributeError:
    from qgis.core import QgsRasterFileWriter

    RASTER_WRITTEN = QgsRasterFileWriter.WriterError.NoError

__all__ = [
    "FLAG_ADVANCED",
    "RASTER_WRITTEN",
    "SOURCE_POINT",
    "SOURCE_POLYGON",
    "SOURCE_RASTER",
    "SOURCE_VECTOR",
    "QAction",
]
