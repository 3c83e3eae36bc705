"""How a model can be taught, by the names of the backend's interface."""

PROTOCOLS = ("quick", "adapter", "full")
LOSSES = {  # and which mistakes each weighs most
    "cross-entropy": "all alike",
    "dice": "small classes",
    "focal": "difficult pixels",
    "lovasz": "overlap of areas",
    "boundary-cross-entropy": "borders of areas",
}
