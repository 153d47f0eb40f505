"""The OpenAPI document lists every field of every answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.sidecar.conversation import ask

from foreshard.sidecar._openapi import openapi_document

DOCUMENT = openapi_document()
QUESTION = json.dumps({"keys": ["hot", "plain"], "op": "read", "from": "San Jose", "explain": True}).encode()
ASKED = [
    ("GET", "/v1/route/hot?from=San%20Jose&explain=1", None),
    ("GET", "/v1/route/plain?op=write&explain=1", None),
    ("GET", "/v1/route/unlisted", None),
    ("GET", "/v1/route/hot?op=neither", None),
    ("POST", "/v1/routes", QUESTION),
    ("POST", "/v1/routes", b"nonsense"),
    ("POST", "/v1/routes", json.dumps({"keys": ["k"] * 10_001}).encode()),
    ("GET", "/v1/table", None),
    ("GET", "/v1/partitions", None),
    ("POST", "/v1/refresh", None),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
]


def schema_of(method: str, target: str, status: int, kind: str) -> dict[str, Any]:
    """The documented schema of an answer."""
    path = target.partition("?")[0]
    names = [name for name in DOCUMENT["paths"] if re.fullmatch(re.sub(r"{\w+}", ".+", name), path)]
    assert len(names) == 1
    answer: dict[str, Any] = DOCUMENT["paths"][names[0]][method.lower()]["responses"][str(status)]["content"][kind]["schema"]
    return answer


def unlisted(value: Any, schema: dict[str, Any], place: str = "answer") -> Iterator[str]:
    """What an answer has that its schema does not list, and what the schema requires and it lacks."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for one in value:
            yield from unlisted(one, schema["items"], f"{place}[]")
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, inner in value.items():
            if name in known:
                yield from unlisted(inner, known[name], f"{place}.{name}")
            elif not others:
                yield f"{place}.{name}"
        yield from (f"{place}.{name} is missing" for name in schema.get("required", ()) if name not in value)


@pytest.mark.parametrize(("method", "target", "body"), ASKED)
def test_every_field_that_is_sent_is_listed(service, method, target, body) -> None:
    answer = ask(service, method, target, content=body)
    kind = answer.headers["content-type"].partition(";")[0]
    assert list(unlisted(answer.json(), schema_of(method, target, answer.status, kind))) == []


def test_answers_without_a_table_are_listed_too(empty_service) -> None:
    for method, target, body in ASKED:
        answer = ask(empty_service, method, target, content=body)
        kind = answer.headers["content-type"].partition(";")[0]
        assert list(unlisted(answer.json(), schema_of(method, target, answer.status, kind))) == []


def test_a_field_that_is_not_listed_would_be_found() -> None:
    schema = {"properties": {"a": {"items": {"properties": {}}}}, "required": ["a", "b"]}
    assert list(unlisted({"a": [{"c": 1}], "d": 2}, schema)) == ["answer.a[].c", "answer.d", "answer.b is missing"]
