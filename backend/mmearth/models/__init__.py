"""Models: their cards, their networks, and where they are installed."""
