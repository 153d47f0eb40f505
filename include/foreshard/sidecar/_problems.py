"""The sidecar's refusals: problem documents (RFC 9457)."""

from __future__ import annotations

from typing import Any

from foreshard.errors import ForeshardError

PROBLEM_TYPE = "urn:foreshard:problem:"


class Problem(ForeshardError):
    """A refused request. ``code`` is for machines; ``detail`` says what to do.

    ``allow``: the allowed methods, for status 405.
    """

    def __init__(self, status: int, code: str, title: str, detail: str, allow: str = "") -> None:
        super().__init__(f"{title}: {detail}")
        self.status, self.code, self.title, self.detail, self.allow = status, code, title, detail, allow

    def document(self) -> dict[str, Any]:
        """The problem document."""
        return {"type": PROBLEM_TYPE + self.code, "title": self.title, "status": self.status, "detail": self.detail}


class BadRequest(Problem):
    """A request that is not valid."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(400, code, "invalid request", detail)


class NoTableYet(Problem):
    """No table is saved, and the control database has not been reached."""

    def __init__(self) -> None:
        detail = "there is no saved table and none was read from the control database yet; start it, or publish a first table"
        super().__init__(503, "no-table", "no routing table yet", detail)


class StaleTable(Problem):
    """The control database has not confirmed the table for too long."""

    def __init__(self, age: float) -> None:
        detail = f"the control database confirmed the table {age:.0f} s ago; restore the connection to it"
        super().__init__(503, "stale-table", "the routing table may be old", detail)


class WrongMethod(Problem):
    """A path that does not allow this method."""

    def __init__(self, allow: str) -> None:
        super().__init__(405, "method", "method not allowed", f"use {allow.split(',')[0]}", allow)


class UnknownPath(Problem):
    """A path that does not exist."""

    def __init__(self) -> None:
        super().__init__(404, "unknown-path", "no such path", "GET /openapi.json lists the paths")


class TooLarge(Problem):
    """A part of a request that exceeds its limit."""

    def __init__(self, status: int, code: str, what: str, limit: int) -> None:
        super().__init__(status, code, f"{what} too large", f"send at most {limit} bytes")
