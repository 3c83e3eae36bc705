"""What is pretrained on: one kind of data set a file, listed in ``mmearth.pretraining.registry``."""
