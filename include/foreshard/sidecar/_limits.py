"""The sidecar's limits, chosen so that one client can't exhaust its memory or block the others."""

from __future__ import annotations

MAXIMUM_TARGET_BYTES = 16 * 2**10
"""Path and query of a request: a percent-encoded key of 4,096 bytes, and its parameters."""
MAXIMUM_HEADER_BYTES = 32 * 2**10
"""Request line and headers."""
MAXIMUM_BODY_BYTES = 16 * 2**20
MAXIMUM_BODIES_BYTES = 64 * 2**20
"""All bodies being received, together."""
MAXIMUM_CONNECTIONS = 16_384
MAXIMUM_STALLED = 256
"""Connections that don't read their answers. With more, the one that stalled first is dropped."""

PIECES_AT_ONCE = 4
"""Pieces of one client to parse before other clients get a turn."""
PIECE_BYTES = 4_096
"""Received bytes to parse before checking whether the client reads its answers."""
WRITE_AHEAD_BYTES = 64 * 2**10
"""Unread answers of a client after which nothing more is read from it."""

IDLE_SECONDS = 75
"""Longest pause between two requests."""
RECEIVE_SECONDS = 20
"""Longest time from the first to the last byte of a request."""
STALL_SECONDS = 20
"""Longest time that a client may leave its answers unread."""
LINGER_SECONDS = 2
"""Time for a client to read why its connection is closed. What it still sends is discarded."""
SHUTDOWN_SECONDS = 3

MAXIMUM_KEYS = 10_000
MAXIMUM_TEXT = 256


def patience(*, stalled: bool, closing: bool, receiving: bool) -> tuple[str, int]:
    """Return what a connection waits for, and the longest time for it in seconds."""
    if stalled:
        return "stalled", STALL_SECONDS
    if closing:
        return "closed", LINGER_SECONDS
    return ("slow", RECEIVE_SECONDS) if receiving else ("idle", IDLE_SECONDS)
