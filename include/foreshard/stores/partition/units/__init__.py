"""How a move's documents are read: raw batches, one batch ahead of their use."""
