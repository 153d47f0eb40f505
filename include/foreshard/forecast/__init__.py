"""Forecast each key's cost for the coming hours."""
