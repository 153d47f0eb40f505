"""Hybrid logical clocks and version vectors."""
