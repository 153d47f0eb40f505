"""The HTTP service that answers where a key lives."""
