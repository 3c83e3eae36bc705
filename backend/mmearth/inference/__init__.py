"""Running a network over a scene of any size, tile by tile, in bounded memory."""
