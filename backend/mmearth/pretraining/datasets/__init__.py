"""What is pretrained on: one kind of data set a file, listed in ``pretraining.registry``."""
