"""The sidecar: a service beside each app that answers where a key lives."""
