"""Change between dates: what is compared, and how a change is told."""
