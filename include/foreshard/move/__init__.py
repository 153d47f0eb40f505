"""Live migration: a journalled state machine that moves units from one partition to another without losing a write."""
