"""Runs a case on a plain collection and on a routed one, and says whether they did the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.errors import PyMongoError
from tests.integration.client.spec.cases import Case
from tests.integration.client.spec.operations import KNOWN, Change, failure, plain, run, with_options

from foreshard.errors import UnroutableOperation

SAME, REFUSED, DIFFERENT, OUTSIDE = "same", "refused", "different", "outside"


@dataclass(frozen=True)
class Verdict:
    """What became of a case, and why."""

    what: str
    why: str = ""


@dataclass(frozen=True)
class Pair:
    """A plain collection and a routed one with the same documents. ``stored`` lists what each of them has."""

    plain: Any
    routed: Any
    stored: Callable[[], tuple[list[Any], list[Any]]]
    change: Change
    is_ordered: bool
    """Whether a read without a sort has to return its documents in the same order."""


def is_outside(case: Case, version: str) -> str:
    """Why a case says nothing about a sharded collection; "" if it does."""
    if not case.runs_on(version):
        return "for another server version"
    for operation in case.operations:
        name, target = operation["name"], operation["object"]
        if name == "failPoint":
            return "needs a server with fail points"
        if target not in case.options:
            return f"{name} of a {target.rstrip('0123456789')}"
        if name not in KNOWN:
            return f"no verb of documents: {name}"
        if "$rand" in str(operation):
            return "its result is random"
    return ""


def compare(case: Case, pair: Pair) -> Verdict:
    """Run a case on both. A refusal must have changed nothing."""
    for operation in case.operations:
        before = pair.stored()[1]
        expected = attempt(pair.plain, case, operation, pair.change)
        seen = attempt(pair.routed, case, operation, pair.change)
        if isinstance(expected, Exception) != bool(operation.get("expectError")):
            return Verdict(DIFFERENT, f"pymongo itself: {expected!r}")
        stands, stored = pair.stored()
        if isinstance(seen, UnroutableOperation):
            return Verdict(REFUSED, seen.problem) if stored == before else Verdict(DIFFERENT, "refused, but it has written")
        if difference := _difference(expected, seen, is_ordered=pair.is_ordered or "sort" in operation.get("arguments", {})):
            return Verdict(DIFFERENT, f"{operation['name']}: {difference}")
        if stands != stored:
            return Verdict(DIFFERENT, f"{operation['name']} left {stored}, pymongo {stands}")
    return Verdict(SAME)


def attempt(collection: Any, case: Case, operation: Mapping[str, Any], change: Change) -> Any:
    """The result of an operation, or the error that it raises."""
    try:
        return run(with_options(collection, case.options[operation["object"]]), operation, change)
    except (PyMongoError, UnroutableOperation, TypeError, ValueError) as error:
        return error


def _difference(expected: Any, seen: Any, *, is_ordered: bool) -> str:
    if isinstance(expected, Exception) or isinstance(seen, Exception):
        kind = type(expected) if isinstance(expected, Exception) else ()
        if not (isinstance(seen, kind) and failure(seen) == failure(expected)):
            return f"{seen!r}, pymongo {expected!r}"
        return ""
    if not is_ordered and isinstance(expected, list) and isinstance(seen, list):
        expected, seen = in_order(expected), in_order(seen)
    return "" if expected == seen else f"{seen!r}, pymongo {expected!r}"


def in_order(documents: Sequence[Any]) -> list[Any]:
    """Documents in an order of their own, without drawn ids."""
    return sorted((plain(one) for one in documents), key=repr)
