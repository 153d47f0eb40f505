"""The sidecar's OpenAPI document."""

from __future__ import annotations

from typing import Any

from foreshard.sidecar._limits import MAXIMUM_KEYS, MAXIMUM_TEXT

Schema = dict[str, Any]
VERSION = "1.0"

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_OP: Schema = {"type": "string", "enum": ["read", "write"], "default": "read"}
_FROM: Schema = {"type": "string", "maxLength": MAXIMUM_TEXT, "description": "the location that the access comes from"}
_STALENESS: Schema = {"type": "number", "minimum": 0, "description": "how far behind a copy may be (ms)"}
_EXPLAIN: Schema = {"type": "string", "enum": ["0", "1", "true", "false"], "default": "0"}
_KEY: Schema = {"type": "string", "minLength": 1, "maxLength": 4096, "pattern": r"^[^\u0000]+$"}


def openapi_document() -> Schema:
    """The document as a JSON value."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Foreshard sidecar", "version": VERSION, "description": "Where does this key live, for me, now?"},
        "paths": {
            "/v1/route/{key}": {"get": _route()},
            "/v1/routes": {"post": _routes()},
            "/v1/table": {"get": _get("The table in use", "Table", 503)},
            "/v1/partitions": {"get": _get("The partitions, as this sidecar sees them", "Partitions")},
            "/v1/refresh": {"post": _get("Read the newest published table", "Refreshed", 503)},
            "/healthz": {"get": _get("Whether the process answers", "Health")},
            "/readyz": {"get": _get("Whether there is a table that is not stale", "Ready", 503)},
            "/metrics": {"get": {"summary": "Figures for Prometheus", "responses": {"200": _content("text/plain", _TEXT)}}},
            "/openapi.json": {
                "get": {"summary": "This document", "responses": {"200": _content("application/json", {"type": "object"})}}
            },
        },
        "components": {"schemas": _schemas(), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def _route() -> Schema:
    parameters = [
        {"name": "key", "in": "path", "required": True, "schema": _KEY, "description": "percent-encoded UTF-8"},
        *(
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in (("op", _OP), ("from", _FROM), ("max_staleness_ms", _STALENESS), ("explain", _EXPLAIN))
        ),
    ]
    return {**_get("Where a key lives", "Route", 400, 503), "parameters": parameters}


def _routes() -> Schema:
    question = {
        "type": "object",
        "required": ["keys"],
        "additionalProperties": False,
        "properties": {
            "keys": {"type": "array", "items": _KEY, "maxItems": MAXIMUM_KEYS},
            "op": _OP,
            "from": {**_FROM, "type": ["string", "null"]},
            "max_staleness_ms": {**_STALENESS, "type": ["number", "null"]},
            "explain": {"enum": [True, False, *_EXPLAIN["enum"]], "default": False},
        },
    }
    body = {"required": True, "content": {"application/json": {"schema": question}}}
    return {**_get("Where many keys live, all from one table", "Routes", 400, 413, 503), "requestBody": body}


def _get(summary: str, schema: str, *problems: int) -> Schema:
    problem = _content("application/problem+json", _reference("Problem"))
    answers = {"200": _content("application/json", _reference(schema)), **{str(status): problem for status in problems}}
    return {"summary": summary, "responses": answers}


def _content(media_type: str, schema: Schema) -> Schema:
    return {"description": "the answer", "content": {media_type: {"schema": schema}}}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> Schema:
    place = {"partition": _TEXT, "location": _TEXT}
    role: Schema = {"type": "string", "enum": ["primary", "shadow"]}
    perhaps: Schema = {"type": ["number", "null"]}
    pressure = {"utilisation": perhaps, "reachable": {"type": "boolean"}, "admission": _NUMBER}
    considered = _object(
        {
            "partition": _TEXT,
            "role": role,
            "km": perhaps,
            "round_trip_ms": perhaps,
            "measured": {"type": "boolean"},
            "staleness_s": perhaps,
            **pressure,
            "latency_ms": perhaps,
            "cost_ms": _NUMBER,
            "verdict": _TEXT,
        }
    )
    route = {"key": _TEXT, **place, "role": role, "epoch": _COUNT, "table_version": _COUNT, "reason": _TEXT}
    partition = {**place, "uri": _TEXT, "state": _TEXT, "capacity": _NUMBER, **pressure, "load_age_seconds": perhaps}
    table = {
        "version": _COUNT,
        "identity": _TEXT,
        "keys": _COUNT,
        "age_seconds": _NUMBER,
        "published_at": {"type": "string", "format": "date-time"},
        "source": {"type": "string", "enum": ["file", "control database"]},
        "connected": {"type": "boolean"},
        "slots": {"type": "object", "additionalProperties": _COUNT},
        "key_type": _TEXT,
    }
    return {
        "Route": _object(
            {**route, "reason_code": _TEXT, "uri": _TEXT},
            {"listed": {"type": "boolean"}, "slot": _COUNT, "considered": _list(considered)},
        ),
        "Routes": _object({"table_version": _COUNT, "routes": _list(_reference("Route"))}),
        "Table": _object(table),
        "Partitions": _object({"partitions": _list(_object(partition))}),
        "Refreshed": _object({"table_version": _COUNT}),
        "Health": _object({"status": {"const": "ok"}, "connected": {"type": "boolean"}}),
        "Ready": _object({"status": {"const": "ready"}, "table_version": _COUNT, "age_seconds": _NUMBER}),
        "Problem": _object({"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT}),
    }


def _object(properties: Schema, optional: Schema | None = None) -> Schema:
    return {"type": "object", "required": list(properties), "properties": {**properties, **(optional or {})}}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}
