"""Access records of an app: which key was accessed, by which request type, from where, and at which cost.

``with recorder.request("checkout", user=…, session=…)`` sets these for every operation in the block, in the same thread or
task.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property

from foreshard.client.routing.routes import ReadPreference
from foreshard.model import AccessRecord
from foreshard.observe.pseudonym import SESSION, USER, pseudonym
from foreshard.ports.access_records import AccessEmitter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequestScope:
    """The app's description of its operations. Fields that are None are taken from the enclosing scope, then from the client.

    ``location``: where the access comes from; reads prefer copies near it. ``max_staleness``: seconds that a read may be behind
    (None: the configured limit for shadows; 0: primaries only). ``own_writes``: whether reads see what this client has written
    (None: yes).
    """

    request_type: str | None = None
    user: str | None = None
    session: str | None = None
    location: str | None = None
    timestamp: datetime | None = None
    max_staleness: float | None = None
    own_writes: bool | None = None

    @cached_property
    def preference(self) -> ReadPreference:
        """The preferences of its reads."""
        return ReadPreference(self.location, self.max_staleness, self.own_writes is not False)

    def over(self, outer: RequestScope) -> RequestScope:
        """This scope, completed by the enclosing one."""
        given = {f.name: value for f in fields(RequestScope) if (value := getattr(self, f.name)) is not None}
        return replace(outer, **given)


_EMPTY = RequestScope()
_CURRENT: ContextVar[RequestScope] = ContextVar("foreshard_request", default=_EMPTY)
PSEUDONYMS_KEPT = 4_096


class Recorder:
    """Makes the access records of one client. Users and sessions are pseudonymised here, before anything is sent.

    ``emitter``: None to record nothing. ``user_key``: makes the pseudonyms; None to record no user and no session.
    ``measure``: record the milliseconds of the operation as its cost; otherwise the cost is empty, and the request type's
    weight is used later.
    """

    def __init__(
        self,
        emitter: AccessEmitter | None,
        user_key: bytes | None,
        default: RequestScope,
        *,
        measure: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._emitter, self._user_key, self._default = emitter, user_key, default
        self._measure, self._clock = measure, clock
        self._warned = False
        self._completed = (_EMPTY, _EMPTY.over(default))
        self._pseudonyms: dict[tuple[bytes, str], str] = {}

    @contextmanager
    def request(self, request: RequestScope) -> Iterator[RequestScope]:
        """Make ``request`` the scope of all operations in the block."""
        whole = request.over(_CURRENT.get())
        token = _CURRENT.set(whole)
        try:
            yield whole
        finally:
            _CURRENT.reset(token)

    def current(self, call: str | RequestScope | None = None) -> RequestScope:
        """The scope of an operation that was called with ``request=call``."""
        scope = _CURRENT.get()
        outer, whole = self._completed
        if scope is not outer:
            whole = scope.over(self._default)
            self._completed = scope, whole
        if call is None:
            return whole
        return (RequestScope(call) if isinstance(call, str) else call).over(whole)

    def start(self) -> float:
        """The start time for measuring a cost."""
        return time.perf_counter() if self._measure else 0.0

    def record(self, request: RequestScope, keys: Iterable[str], verb: str, started: float) -> None:
        """Record one access of each key. ``verb`` is the request type if the app gives none. Never raises."""
        if self._emitter is None:
            return
        cost = (time.perf_counter() - started) * 1000 if self._measure else None
        try:
            moment = request.timestamp or self._clock()
            user, session = self._pseudonym(USER, request.user), self._pseudonym(SESSION, request.session)
            kind = request.request_type or verb
            listed = tuple(keys)
            share = cost / len(listed) if cost is not None and listed else None
            for key in listed:
                self._emitter.emit(AccessRecord(moment, key, user, kind, request.location, session, share))
        except Exception:  # the operation has succeeded; a failing record must not change that
            if not self._warned:
                self._warned = True
                logger.exception("an access record could not be made; further failures are not logged")

    def _pseudonym(self, of: bytes, name: str | None) -> str | None:
        """The pseudonym of a user or a session, from a cache. None without a name or a key."""
        if name is None or not self._user_key:
            return None
        known = self._pseudonyms.get((of, name))
        if known is None:
            if len(self._pseudonyms) >= PSEUDONYMS_KEPT:
                self._pseudonyms.clear()
            known = self._pseudonyms[of, name] = pseudonym(self._user_key, name, of)
        return known

    def flush(self, timeout: float) -> int:
        """Wait until the records are delivered. Return how many are not."""
        return self._emitter.flush(timeout) if self._emitter is not None else 0

    @property
    def dropped(self) -> int:
        """Number of lost records."""
        return self._emitter.dropped if self._emitter is not None else 0

    def close(self, timeout: float) -> None:
        """Flush and stop."""
        if self._emitter is not None:
            self._emitter.close(timeout)
