"""The only rooms that do I/O. Each store implements one port."""
