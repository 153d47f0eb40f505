"""Documents as bytes, the form in which they are copied and replicated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class DocumentCodec(Protocol):
    """Encodes and decodes whole documents."""

    def encode(self, document: Mapping[str, Any]) -> bytes:
        """Return the document as bytes."""
        ...

    def decode(self, body: bytes) -> dict[str, Any]:
        """Return the document of such bytes, with aware times."""
        ...
