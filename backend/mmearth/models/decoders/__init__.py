"""Decoders: from an encoder's feature maps to what is asked for."""
