"""Job kinds: what the backend can be asked to do."""
