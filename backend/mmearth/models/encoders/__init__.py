"""Encoders of our own, following the contract of segmentation-models-pytorch."""
