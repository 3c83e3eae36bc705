"""How good encoders are, by the protocols of the papers, on labelled tiles."""
