"""The sidecar's endpoints: ``GET /v1/route/{key}``, ``POST /v1/routes``, ``GET /v1/table``, ``GET /v1/partitions``,
``POST /v1/refresh``, ``GET /healthz``, ``GET /readyz``, ``GET /metrics``, ``GET /openapi.json``.

Errors are problem documents (RFC 9457). The transport is :mod:`foreshard.sidecar._protocol`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from foreshard.errors import ForeshardError
from foreshard.sidecar._answers import Answer, encode, problem_answer
from foreshard.sidecar._batch import routes_of
from foreshard.sidecar._figures import ROUTE, ROUTES
from foreshard.sidecar._lookups import PREFIX
from foreshard.sidecar._metrics import CONTENT_TYPE, SidecarMetrics
from foreshard.sidecar._openapi import openapi_document
from foreshard.sidecar._problems import NoTableYet, Problem, StaleTable, UnknownPath, WrongMethod
from foreshard.sidecar._requests import parse_batch, parse_key, parse_query
from foreshard.sidecar._service import RouteService

Refresh = Callable[[], Awaitable[int]]
Handler = Callable[[bytes], Answer | Awaitable[Answer]]

log = logging.getLogger(__name__)


class Endpoints:
    """``refresh`` reads the newest table and returns its version, or raises a :class:`Problem`."""

    def __init__(self, service: RouteService, metrics: SidecarMetrics, refresh: Refresh) -> None:
        self.service, self.metrics, self.figures = service, metrics, metrics.figures
        self._refresh = refresh
        self._openapi = encode(openapi_document())
        self._paths: dict[bytes, tuple[bytes, Handler]] = {
            b"/v1/routes": (b"POST", self._routes),
            b"/v1/table": (b"GET", self._table),
            b"/v1/partitions": (b"GET", self._partitions),
            b"/v1/refresh": (b"POST", self._refreshed),
            b"/healthz": (b"GET", self._health),
            b"/readyz": (b"GET", self._ready),
            b"/metrics": (b"GET", self._metrics),
            b"/openapi.json": (b"GET", lambda _: Answer(self._openapi)),
        }

    def answer(self, method: bytes, target: bytes, body: bytes) -> Answer | Awaitable[Answer]:
        """Return the answer to one request, or an awaitable if it takes a while. Never raises."""
        try:
            path, _, query = _origin_form(target).partition(b"?")
            if path.startswith(PREFIX):
                return self._route(method, path[len(PREFIX) :], query)
            found = self._handler(method, path)(body)
        except Exception as error:
            return self.refused(error)
        return found if isinstance(found, Answer) else self._waited(found)

    def refused(self, error: Exception) -> Answer:
        """Return the problem document for ``error``, and count it."""
        if isinstance(error, Problem):
            problem = error
        elif isinstance(error, ForeshardError):
            problem = Problem(503, "unavailable", type(error).__name__, str(error))
        else:
            log.error("a request failed", exc_info=error)
            problem = Problem(
                500, "internal", "internal error", "the sidecar's log has the details; retry, or restart the sidecar"
            )
        self.figures.refused(problem.status, problem.code)
        return problem_answer(problem)

    def _handler(self, method: bytes, path: bytes) -> Handler:
        if path not in self._paths:
            raise UnknownPath
        allowed, handler = self._paths[path]
        if method != allowed and not (method == b"HEAD" and allowed == b"GET"):
            raise WrongMethod("GET, HEAD" if allowed == b"GET" else allowed.decode())
        return handler

    async def _waited(self, pending: Awaitable[Answer]) -> Answer:
        try:
            return await pending
        except Exception as error:
            return self.refused(error)

    def _route(self, method: bytes, key: bytes, query: bytes) -> Answer:
        begun = time.perf_counter()
        if method not in {b"GET", b"HEAD"}:
            raise WrongMethod("GET, HEAD")
        request = parse_query(query).about(parse_key(key, self.service.key_type))
        decision, answer = self.service.route(request)
        self.figures.routed(request.kind.value, decision.role, decision.code)
        body = encode(answer)
        self.figures.times[ROUTE].took(time.perf_counter() - begun)
        return Answer(body)

    async def _routes(self, body: bytes) -> Answer:
        begun = time.perf_counter()
        keys, question = parse_batch(body, self.service.key_type)
        written = await routes_of(self.service, self.figures, keys, question, plain=b"\\" not in body)
        self.figures.times[ROUTES].took(time.perf_counter() - begun)
        return Answer(written)

    def _table(self, _: bytes) -> Answer:
        installed = self.service.installed
        if installed is None:
            raise NoTableYet
        table = installed.table
        document = {
            "version": table.version,
            "identity": installed.identity,
            "keys": len(table.placements),
            "age_seconds": round(self.service.age(), 3),
            "published_at": table.published_at.isoformat(),
            "source": installed.source,
            "connected": self.service.connected,
            "slots": dict(Counter(placement.primary for placement in table.slots.placements)),
            "key_type": table.slots.space.key_type.value,
        }
        return Answer(encode(document))

    def _partitions(self, _: bytes) -> Answer:
        self.service.expire_prepared()
        return Answer(encode({"partitions": self.service.describe_partitions()}))

    async def _refreshed(self, _: bytes) -> Answer:
        try:
            version = await self._refresh()
        except ForeshardError:
            self.figures.refreshes["failed"] += 1
            raise
        self.figures.refreshes["done"] += 1
        return Answer(encode({"table_version": version}))

    def _health(self, _: bytes) -> Answer:
        return Answer(encode({"status": "ok", "connected": self.service.connected}))

    def _ready(self, _: bytes) -> Answer:
        version, age = self.service.table().version, self.service.age()
        if age > self.service.config.stale_after:
            raise StaleTable(age)
        return Answer(encode({"status": "ready", "table_version": version, "age_seconds": round(age, 3)}))

    def _metrics(self, _: bytes) -> Answer:
        return Answer(self.metrics.text(), CONTENT_TYPE.encode())


def _origin_form(target: bytes) -> bytes:
    """A target without the scheme and authority that clients of a proxy send (RFC 9112, 3.2.2)."""
    if target.startswith(b"/"):
        return target
    _, _, rest = target.partition(b"://")
    slash = rest.find(b"/")
    return rest[slash:] if slash >= 0 else b"/"
