"""Decoders: from an encoder's feature maps to class scores."""
