"""Move keys between partitions, live."""
