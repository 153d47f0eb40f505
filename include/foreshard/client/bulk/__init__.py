"""Writes of many documents in one call, and the checks that each request names its key."""
