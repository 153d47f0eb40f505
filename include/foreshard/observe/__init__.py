"""Counts accesses: hourly key load and co-access from raw records."""
