"""Training: data, augmentation, loops and figures."""
