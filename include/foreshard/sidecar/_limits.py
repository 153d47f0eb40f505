"""What one client may take of a sidecar, so that it stays small and answers the others."""

from __future__ import annotations

MAXIMUM_TARGET_BYTES = 16 * 2**10
"""A request's path and query: a key of 4,096 bytes, percent-encoded, and its parameters."""
MAXIMUM_HEADER_BYTES = 32 * 2**10
"""A request's line and headers."""
MAXIMUM_BODY_BYTES = 16 * 2**20
MAXIMUM_BODIES_BYTES = 64 * 2**20
"""All bodies that are being received."""
MAXIMUM_CONNECTIONS = 16_384
MAXIMUM_STALLED = 256
"""Connections that don't take their answers; the one that stalled first is dropped when there are more."""

PIECE_BYTES = 4_096
"""Received bytes that are read before it is looked whether the client takes its answers."""
WRITE_AHEAD_BYTES = 64 * 2**10
"""Answers that wait for a client before nothing more is read from it."""

IDLE_SECONDS = 75
"""Between two requests."""
RECEIVE_SECONDS = 20
"""From a request's first byte to its last."""
STALL_SECONDS = 20
"""Until a client that takes no answers is dropped."""
LINGER_SECONDS = 2
"""In which a client may read why its connection is closed, while what it still sends is thrown away."""
SHUTDOWN_SECONDS = 3

MAXIMUM_KEY_BYTES = 4_096
MAXIMUM_KEYS = 10_000
MAXIMUM_TEXT = 256
