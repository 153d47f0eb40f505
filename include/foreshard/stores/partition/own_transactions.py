"""How Foreshard's own writes are told from an app's in a change stream.

Movers and appliers write documents in transactions only, and each of these first changes a document of ``LEASES`` or ``GUARDS``
in the partition's bookkeeping database. So a transaction that begins with such an event is Foreshard's, and no other is.
"""

from __future__ import annotations

LEASES, GUARDS = "move_leases", "shadow_guards"
VERSIONS = "foreshard_versions"
"""A collection of versions beside the documents of shadows, in each database of an app."""
