"""MMEarth inference backend: raster stacks in, land-cover maps out."""

__version__ = "0.1.0"
