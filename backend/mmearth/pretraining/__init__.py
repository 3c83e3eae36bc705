"""Self-supervised pretraining: an encoder learns from images that nobody has labelled.

One pretext method a file, listed in ``registry``; data sets are in ``datasets``.
"""
