"""Stores that read and write the control database."""
