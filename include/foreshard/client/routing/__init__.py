"""How a client finds where a key lives: in process from the sidecar's files, or by asking the sidecar."""
