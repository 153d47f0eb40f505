"""Histories of documents: what clients asked for, what they were told, and when.

A document is a register: a value, or absent (None). Times are nanoseconds of the monotonic clock, which all processes of a
machine share.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

Value = str | None
"""A document's value. None: there is no such document."""


class Kind(StrEnum):
    """What a client asked for."""

    READ = "read"
    INSERT = "insert"
    UPDATE = "update"
    UPSERT = "upsert"
    DELETE = "delete"


class Outcome(StrEnum):
    """What the client knows. ``refused`` had no effect; ``unknown`` may take effect at any later time, or never."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Call:
    """One operation on one document.

    ``value`` is what was written. ``found`` is the answer: a read's value, and for writes "yes" or "no": whether there was a
    document (None: the client does not know). ``returned`` is None for an unknown outcome.
    """

    document: str
    client: int
    kind: Kind
    value: Value
    found: Value
    invoked: int
    returned: int | None
    outcome: Outcome = Outcome.OK

    def after(self, state: Value) -> tuple[bool, Value]:
        """Return whether the answer is right if the document is in ``state``, and the state afterwards."""
        if self.kind is Kind.READ:
            return self.outcome is Outcome.UNKNOWN or self.found == state, state
        if self.found is not None and (self.found == "yes") != (state is not None):
            return False, state
        if self.kind is Kind.DELETE:
            return True, None
        writes = self.kind is Kind.UPSERT or (self.kind is Kind.INSERT) == (state is None)
        return True, self.value if writes else state


class Recorder:
    """Collects the calls of many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []

    def record(self, call: Call) -> None:
        """Note a call."""
        with self._lock:
            self._calls.append(call)

    def taken(self) -> list[Call]:
        """Return the calls since the last time."""
        with self._lock:
            calls, self._calls = self._calls, []
        return calls

    def run(self, document: str, client: int, kind: Kind, value: Value, ask: Callable[[], Value], unknown: tuple) -> Value:
        """Call ``ask`` and note its answer. Exceptions of ``unknown`` leave the outcome open; all others mean no effect."""
        call = Call(document, client, kind, value, None, time.monotonic_ns(), None, Outcome.UNKNOWN)
        try:
            found = ask()
        except unknown:
            self.record(call)
            raise
        except BaseException:
            self.record(replace(call, outcome=Outcome.REFUSED, returned=time.monotonic_ns()))
            raise
        self.record(replace(call, found=found, outcome=Outcome.OK, returned=time.monotonic_ns()))
        return found


def by_document(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """Return each document's calls, in the order of their invocation."""
    found: dict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.invoked):
        found[call.document].append(call)
    return dict(found)


def to_json(calls: Iterable[Call]) -> str:
    """Return the calls as a line of JSON, for the second opinion."""
    return json.dumps([asdict(call) for call in calls])


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one document. ``stuck`` are the calls of which none can come next."""

    linearizable: bool
    calls: int
    longest: tuple[Call, ...] = ()
    stuck: tuple[Call, ...] = ()

    def explain(self) -> str:
        """Describe the end of the longest order that was found, and the calls that fit nowhere behind it."""
        lines = ["behind these calls …", *map(_line, self.longest[-6:]), "… none of these can come next:"]
        return "\n  ".join([*lines, *map(_line, self.stuck)])


def check(calls: Iterable[Call], first: Value = None) -> Verdict:
    """Look for an order of the calls that explains every answer and keeps to their times (Wing and Gong, 1993).

    A set of placed calls is never tried twice with one state (Lowe, 2017). ``first`` is the document's value at the beginning.
    Refused calls are left out. Unknown ones may be left out, so the search ends once all the others are placed.
    """
    relevant = [call for call in calls if call.outcome is not Outcome.REFUSED]
    known = sorted((c for c in relevant if c.returned is not None), key=lambda call: call.invoked)
    open_calls = sorted((c for c in relevant if c.returned is None and c.kind is not Kind.READ), key=lambda c: c.invoked)
    return _Search(known, open_calls, first).run()


class _Search:
    """The calls of one document. Bit i of a mask stands for call i; ``wanted`` has the bits that must be placed."""

    def __init__(self, known: list[Call], open_calls: list[Call], first: Value) -> None:
        self.calls, self.first = [*known, *open_calls], first
        self.known = len(known)
        self.wanted = (1 << self.known) - 1
        self.longest: list[int] = []

    def run(self) -> Verdict:
        seen = {(0, self.first)}
        placed: list[int] = []
        stack = [(0, self.first, self._next(0))]
        while stack:
            mask, state, candidates = stack[-1]
            if mask & self.wanted == self.wanted:
                return Verdict(True, len(self.calls))
            for index in candidates:
                fits, after = self.calls[index].after(state)
                key = (mask | 1 << index, after)
                if fits and key not in seen and (index < self.known or after != state):
                    seen.add(key)
                    placed.append(index)
                    stack.append((*key, self._next(key[0])))
                    if len(placed) > len(self.longest):
                        self.longest = list(placed)
                    break
            else:
                stack.pop()
                with suppress(IndexError):
                    placed.pop()
        return self._failure()

    def _next(self, mask: int) -> list[int]:
        """Return the calls that no call outside ``mask`` precedes. Those with an unknown outcome come last."""
        found: list[int] = []
        horizon: float = float("inf")
        index = _lowest_zero(mask)
        while index < self.known and self.calls[index].invoked <= horizon:
            if not mask >> index & 1:
                found.append(index)
                horizon = min(horizon, self.calls[index].returned or horizon)
            index += 1
        some = [i for i in found if self.calls[i].invoked <= horizon]
        late = range(self.known, len(self.calls))
        return some + [i for i in late if not mask >> i & 1 and self.calls[i].invoked <= horizon]

    def _failure(self) -> Verdict:
        mask = sum(1 << index for index in self.longest)
        calls = self.calls
        return Verdict(False, len(calls), tuple(calls[i] for i in self.longest), tuple(calls[i] for i in self._next(mask)))


def _lowest_zero(mask: int) -> int:
    return (~mask & (mask + 1)).bit_length() - 1


def _line(call: Call) -> str:
    end = "…" if call.returned is None else f"{(call.returned - call.invoked) / 1e6:.2f} ms"
    return f"{call.invoked / 1e6:.3f} +{end} client {call.client} {call.kind} {call.value!r} → {call.found!r} ({call.outcome})"
