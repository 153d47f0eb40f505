"""The sidecar over HTTP: one ASGI application on Starlette; the one hot path goes around Starlette's routing.

``GET /v1/route/{key}``, ``POST /v1/routes``, ``GET /v1/table``, ``GET /v1/partitions``, ``POST /v1/refresh``, ``GET /healthz``,
``GET /readyz``, ``GET /metrics``. Errors are problem documents (RFC 9457).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from foreshard.errors import ForeshardError
from foreshard.sidecar.metrics import CONTENT_TYPE, SidecarMetrics
from foreshard.sidecar.problems import PROBLEM_TYPE, NoTableYet, Problem
from foreshard.sidecar.requests import MAXIMUM_BODY_BYTES, parse_batch, parse_key, parse_query
from foreshard.sidecar.service import RouteService

ROUTE_PREFIX = b"/v1/route/"
JSON, PROBLEM_JSON = b"application/json", b"application/problem+json"
YIELD_EVERY = 200
"""Keys of a batch between two chances for other requests."""

Refresh = Callable[[], Awaitable[int]]
Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


class SidecarApp:
    """``refresh`` makes the table as new as the control database's and returns its version, or raises a :class:`Problem`."""

    def __init__(
        self, service: RouteService, metrics: SidecarMetrics, refresh: Refresh, lifespan: Lifespan | None = None
    ) -> None:
        self._service, self._metrics, self._refresh = service, metrics, refresh
        self._others: ASGIApp = Starlette(
            routes=[
                Route("/v1/routes", self._routes, methods=["POST"]),
                Route("/v1/table", self._table),
                Route("/v1/partitions", self._partitions),
                Route("/v1/refresh", self._refreshed, methods=["POST"]),
                Route("/healthz", self._health),
                Route("/readyz", self._ready),
                Route("/metrics", self._figures),
            ],
            exception_handlers={HTTPException: self._http_problem, ForeshardError: self._problem},  # type: ignore[dict-item]
            lifespan=lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (or run the lifespan)."""
        if scope["type"] == "http" and scope["raw_path"].startswith(ROUTE_PREFIX):
            status, content_type, body = self._route(scope)
            headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
            if status == 405:
                headers.append((b"allow", b"GET"))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await self._others(scope, receive, send)

    def _route(self, scope: Scope) -> tuple[int, bytes, bytes]:
        begun = time.perf_counter()
        try:
            if scope["method"] != "GET":
                raise Problem(405, "method", "method not allowed", "ask with GET")
            request = parse_query(scope["query_string"]).about(parse_key(scope["raw_path"][len(ROUTE_PREFIX) :]))
            made, answer = self._service.route(request)
        except ForeshardError as error:
            problem = self._refused(error)
            return problem.status, PROBLEM_JSON, _encode(problem.document())
        self._metrics.routed(request.kind.value, made.role, made.code)
        body = _encode(answer)
        self._metrics.took(time.perf_counter() - begun)
        return 200, JSON, body

    async def _routes(self, request: Request) -> Response:
        begun = time.perf_counter()
        keys, question = parse_batch(await _body(request))
        table = self._service.table()
        answers = []
        for number, key in enumerate(keys):
            if number % YIELD_EVERY == YIELD_EVERY - 1:
                await asyncio.sleep(0)
            made, answer = self._service.route(question.about(key), table)
            self._metrics.routed(question.kind.value, made.role, made.code)
            answers.append(answer)
        body = _encode({"table_version": table.version, "routes": answers})
        self._metrics.took(time.perf_counter() - begun, batch=True)
        return _json(body)

    async def _table(self, _: Request) -> Response:
        installed = self._service.installed
        if installed is None:
            raise NoTableYet
        table, rule = installed.table, installed.table.default_rule
        return _json(
            {
                "version": table.version,
                "identity": installed.identity,
                "keys": len(table.placements),
                "age_seconds": round(max(0.0, self._service.clock() - installed.confirmed_at), 3),
                "published_at": table.published_at.isoformat(),
                "source": installed.source,
                "connected": self._service.connected,
                "default_rule": dict(zip(rule.partitions, rule.weights, strict=True)),
            }
        )

    async def _partitions(self, _: Request) -> Response:
        return _json({"partitions": self._service.describe_partitions()})

    async def _refreshed(self, _: Request) -> Response:
        try:
            version = await self._refresh()
        except ForeshardError:
            self._metrics.refreshed("failed")
            raise
        self._metrics.refreshed("done")
        return _json({"table_version": version})

    async def _health(self, _: Request) -> Response:
        return _json({"status": "ok", "connected": self._service.connected})

    async def _ready(self, _: Request) -> Response:
        return _json({"status": "ready", "table_version": self._service.table().version})

    async def _figures(self, _: Request) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def _problem(self, _: Request, error: ForeshardError) -> Response:
        problem = self._refused(error)
        headers = {"retry-after": "1"} if problem.status == 503 else None
        return Response(_encode(problem.document()), problem.status, headers, PROBLEM_JSON.decode())

    async def _http_problem(self, _: Request, error: HTTPException) -> Response:
        self._metrics.refused(error.status_code, "http")
        document = {"type": PROBLEM_TYPE + "http", "title": error.detail, "status": error.status_code, "detail": error.detail}
        return Response(_encode(document), error.status_code, error.headers, PROBLEM_JSON.decode())

    def _refused(self, error: ForeshardError) -> Problem:
        problem = error if isinstance(error, Problem) else Problem(503, "unavailable", type(error).__name__, str(error))
        self._metrics.refused(problem.status, problem.code)
        return problem


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _json(value: Any) -> Response:
    return Response(value if isinstance(value, bytes) else _encode(value), media_type=JSON.decode())


async def _body(request: Request) -> bytes:
    """The body, refused as soon as it is too large."""
    parts: list[bytes] = []
    size = 0
    stream: AsyncIterator[bytes] = request.stream()
    async for part in stream:
        size += len(part)
        if size > MAXIMUM_BODY_BYTES:
            raise Problem(413, "body-too-large", "body too large", f"send at most {MAXIMUM_BODY_BYTES} bytes at once")
        parts.append(part)
    return b"".join(parts)
