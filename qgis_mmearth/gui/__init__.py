"""The panel and the settings page."""
