"""Labels that a user has drawn, or has as a raster, as pixels of the model's grid."""

from mmearth.training.labels.base import (
    MOST_CLASSES,
    Labels,
    class_text,
    is_whole,
    no_data_at_labels,
    require_classes,
    require_data,
    without_data,
)
from mmearth.training.labels.raster import BLOCK, read_raster_labels
from mmearth.training.labels.read import read_labels, refuse_vectors
from mmearth.training.labels.squares import repeats
from mmearth.training.labels.vector import read_vector_labels, reprojected

__all__ = [
    "BLOCK",
    "MOST_CLASSES",
    "Labels",
    "class_text",
    "is_whole",
    "no_data_at_labels",
    "read_labels",
    "read_raster_labels",
    "read_vector_labels",
    "refuse_vectors",
    "repeats",
    "reprojected",
    "require_classes",
    "require_data",
    "without_data",
]
