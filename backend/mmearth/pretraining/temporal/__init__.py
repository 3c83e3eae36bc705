"""Patches of several dates, cut out of scenes that overlap."""
