"""Data for pretraining of one's own rasters: images in tiles, paired with all else by place."""
