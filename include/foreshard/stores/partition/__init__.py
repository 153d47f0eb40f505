"""Stores that read and write one partition's own documents."""
