"""Asks the sidecar over HTTP, by keep-alive connections of ``http.client`` (a third of the cost of httpx per request)."""

from __future__ import annotations

import http.client
import json
import math
import os
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from foreshard.client.routing.pymongo_errors import ClientMisconfigured, KeyRefused, ServiceUnreachable
from foreshard.client.routing.routes import Operation, PartitionAddress, ReadPreference, Route
from foreshard.routing.address import http_address

START_IT = "start it (foreshard sidecar), or give the client a routing file to route from"
KEYS_AT_ONCE = 5_000
AUTHORITY = "FORESHARD_SIDECAR__TLS_AUTHORITY"
_BROKEN = (http.client.HTTPException, OSError)


class SidecarRoutes:
    """Asks the sidecar at ``url``, with its ``token`` if it has one. Thread-safe, and safe after a fork.

    An https address is checked by the certificates in ``authority`` (None: those of the system).

    If the sidecar has closed an idle connection, the request is sent once more over a new one. All requests here are
    idempotent.
    """

    def __init__(self, url: str, timeout: float = 2.0, token: str | None = None, authority: Path | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientMisconfigured("sidecar_url", f"{url!r} is not an http address", "use the form http://127.0.0.1:7788")
        self._context = checking_context(authority) if parts.scheme == "https" else None
        self._host, self._port = parts.hostname, parts.port or (80 if self._context is None else 443)
        self._prefix = parts.path.rstrip("/")
        self._timeout = timeout
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._process = os.getpid()

    def route(self, key: str, operation: Operation, preference: ReadPreference) -> Route:
        """Return where ``key`` lives."""
        try:
            path = f"/v1/route/{quote(key, safe='')}?op={operation}"
        except UnicodeEncodeError as error:
            raise KeyRefused(key, 400, "the key contains half of a surrogate pair; send valid Unicode") from error
        if preference.location:
            path += f"&from={quote(preference.location, safe='')}"
        if preference.max_staleness is not None:
            path += f"&max_staleness_ms={preference.max_staleness * 1000:g}"
        status, answer = self._ask("GET", path)
        self._check(status, answer, key)
        return self._as_route(key, answer)

    def routes(self, keys: Sequence[str], operation: Operation, preference: ReadPreference) -> dict[str, Route]:
        """Return where many keys live, with ``KEYS_AT_ONCE`` keys per request."""
        found: dict[str, Route] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            question: dict[str, Any] = {"keys": list(some), "op": operation.value}
            if preference.location:
                question["from"] = preference.location
            if preference.max_staleness is not None:
                question["max_staleness_ms"] = preference.max_staleness * 1000
            status, answer = self._ask("POST", "/v1/routes", json.dumps(question).encode())
            self._check(status, answer, some[0])
            answers = answer.get("routes", ()) if isinstance(answer, Mapping) else ()
            if len(answers) != len(some):
                raise ServiceUnreachable("sidecar", self._address, "its answer has too few keys; check its version")
            found.update((key, self._as_route(key, one)) for key, one in zip(some, answers, strict=True))
        return found

    def partitions(self) -> tuple[PartitionAddress, ...]:
        """Every registered partition."""
        status, answer = self._ask("GET", "/v1/partitions")
        if status != 200:
            raise ServiceUnreachable("sidecar", self._address, f"it answered {status}: {_problem(answer)}")
        rows = answer["partitions"] if isinstance(answer, Mapping) else answer
        return tuple(PartitionAddress(str(row["partition"]), str(row.get("location", "")), str(row["uri"])) for row in rows)

    def refresh(self) -> int:
        """Make the sidecar read the newest published table. Return its version."""
        status, answer = self._ask("POST", "/v1/refresh")
        if status >= 400:
            raise ServiceUnreachable("sidecar", self._address, f"it could not refresh ({status}: {_problem(answer)})")
        return int(answer.get("table_version", 0)) if isinstance(answer, Mapping) else 0

    def age(self) -> float:
        """Seconds since the control database last confirmed the sidecar's table; infinite if the sidecar does not say."""
        status, answer = self._ask("GET", "/v1/table")
        if status != 200 or not isinstance(answer, Mapping):
            raise ServiceUnreachable("sidecar", self._address, f"it answered {status}: {_problem(answer)}")
        return float(answer.get("age_seconds", math.inf))

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    @property
    def _address(self) -> str:
        return http_address(self._host, self._port, secure=self._context is not None)

    def _check(self, status: int, answer: Any, key: str) -> None:
        if status >= 500:
            raise ServiceUnreachable("sidecar", self._address, f"it answered {status}: {_problem(answer)}")
        if status != 200:
            raise KeyRefused(key, status, _problem(answer))

    def _as_route(self, key: str, answer: Any) -> Route:
        try:
            if answer["key"] != key:
                raise ServiceUnreachable("sidecar", self._address, "it answered for another key; restart it")
            return Route(
                key,
                str(answer["partition"]),
                str(answer.get("location") or ""),
                str(answer.get("role") or ""),
                int(answer["epoch"]),
                int(answer["table_version"]),
                str(answer.get("reason") or ""),
                str(answer["uri"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ServiceUnreachable(
                "sidecar", self._address, f"its answer is not understood ({error!r}); check its version"
            ) from error

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        connection, reused = self._take()
        try:
            return self._exchange(connection, method, path, body)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            problem = f"the certificate of {self._address} is not accepted ({error.verify_message})"
            raise ClientMisconfigured(AUTHORITY, problem, "name the file of the authority that has issued it") from error
        except _BROKEN as error:
            connection.close()
            if not reused or isinstance(error, TimeoutError):
                raise ServiceUnreachable("sidecar", self._address, START_IT) from error
        connection = self._connect()
        try:
            return self._exchange(connection, method, path, body)
        except _BROKEN as error:
            connection.close()
            raise ServiceUnreachable("sidecar", self._address, START_IT) from error

    def _exchange(self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> tuple[int, Any]:
        connection.request(method, self._prefix + path, body, self._headers)
        response = connection.getresponse()
        content = response.read()
        if response.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        if response.status == http.HTTPStatus.UNAUTHORIZED:
            problem = f"the sidecar at {self._address} has another token"
            raise ClientMisconfigured("FORESHARD_SIDECAR__TOKEN", problem, "give the app the sidecar's token")
        try:
            return response.status, json.loads(content) if content else None
        except ValueError as error:
            if response.status >= 400:
                return response.status, {"detail": response.reason}
            raise ServiceUnreachable("sidecar", self._address, "its answer is not JSON; check its address") from error

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        if self._process != os.getpid():  # a forked child must not use its parent's connections
            self._idle, self._process = deque(), os.getpid()
        try:
            return self._idle.pop(), True
        except IndexError:
            return self._connect(), False

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)


def checking_context(authority: Path | None) -> ssl.SSLContext:
    """Return what checks a sidecar's certificate. Raise :class:`ClientMisconfigured`."""
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ClientMisconfigured(AUTHORITY, f"{authority} can't be read ({reason})", "give certificates as PEM") from error


def _problem(answer: Any) -> str:
    """The text of a problem document (RFC 9457), or the answer itself."""
    if isinstance(answer, Mapping):
        for name in ("detail", "title", "error", "reason"):
            if answer.get(name):
                return str(answer[name])
    return str(answer) if answer else "no detail"
