"""Reading raster stacks on one grid, and writing maps."""
