"""Writes that a fence does not stop by itself."""
