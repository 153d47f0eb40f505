"""Live migration: a journalled state machine that moves a key from one partition to another without losing a write."""
