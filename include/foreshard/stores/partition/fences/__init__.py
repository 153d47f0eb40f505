"""The fence of a partition: its lists, its validator, and how they change."""
