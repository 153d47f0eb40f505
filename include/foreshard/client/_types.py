"""Types that several modules of the client share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")

Document = dict[str, Any]
Filter = Mapping[str, Any]
Update = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Projection = Mapping[str, Any] | Sequence[str] | None
