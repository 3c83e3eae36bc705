"""Reading published weight files."""
