"""Aggregations over several partitions: which stages run where, and how the results are merged."""
