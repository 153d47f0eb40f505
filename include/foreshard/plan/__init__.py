"""Decide the hour's moves and shadows."""
