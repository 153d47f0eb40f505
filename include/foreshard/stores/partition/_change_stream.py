"""A partition's change stream: the events of a move's collections, in one order with the events of the move's lease.

A move recognises its own writes by their transaction, which has bumped the lease document, and those of other movers likewise.
A mark is a write to a document of the lease; everything that was written before the mark comes before it in the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.change_stream import ChangeStream
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from foreshard.ports.migration import Position
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._move_lease import MoveLease

HISTORY_LOST = frozenset({136, 222, 260, 280, 286, 40649})
"""Server errors that mean that a stream cannot resume: CappedPositionLost, CloseChangeStream, InvalidResumeToken,
ChangeStreamFatalError, ChangeStreamHistoryLost, and 40649 for a damaged token."""
PUTS = ("insert", "update", "replace")
COLLECTION_EVENTS = ("drop", "rename", "dropDatabase")


@contextmanager
def history_lost_as(error: Callable[[OperationFailure], Exception]) -> Iterator[None]:
    """Raise ``error(failure)`` if the server says that the stream cannot resume."""
    try:
        yield
    except OperationFailure as failure:
        if failure.code in HISTORY_LOST:
            raise error(failure) from failure
        raise


class LeaseStream:
    """A change stream filtered by ``wanted`` that also reads the events of ``lease``, from ``position`` on.

    ``of_all``: it reads the events of every move's lease.
    """

    def __init__(
        self,
        client: MongoClient[Document],
        session: ClientSession,
        wanted: Sequence[Mapping[str, Any]],
        lease: MoveLease,
        position: Position,
        *,
        await_ms: int,
        of_all: bool = False,
    ) -> None:
        self._lease = lease
        self._own: tuple[Any, int] | None = None
        self._movers: tuple[Any, int] | None = None
        self.mark = -1
        """The highest mark that was read."""
        pipeline: list[dict[str, Any]] = [
            {"$match": {"$or": [*wanted, lease.events(of_all=of_all)]}},
            {"$set": {"mark": _mark_of_event(lease)}},
            {"$set": {"validator": _validator_of_event()}},
            {"$unset": ["fullDocument", "updateDescription", "stateBeforeChange", "operationDescription"]},
        ]
        self._stream: ChangeStream[Document] = client.watch(
            pipeline, max_await_time_ms=await_ms, session=session, show_expanded_events=True, **_start_at(position, session)
        )

    @property
    def resume_token(self) -> Mapping[str, Any] | None:
        """The token after the event that was read last."""
        return self._stream.resume_token

    def read(self) -> Document | None:
        """Return the next event; None if no event is waiting."""
        event = self._stream.try_next()
        if event is not None and self.is_of_lease(event):
            self._movers = transaction_of(event)
            if event["documentKey"]["_id"] == self._lease.move_id:
                self._own = self._movers
            elif self._lease.is_mark(event["documentKey"]["_id"]):
                self.mark = max(self.mark, event.get("mark") or -1)
        return event

    def is_of_lease(self, event: Document) -> bool:
        """Return whether the event is about a lease document or a mark."""
        return namespace_of(event) == ".".join(self._lease.namespace)

    def is_own(self, event: Document) -> bool:
        """Return whether the move itself caused the event. The lease's event comes first in each of its transactions."""
        return self._own is not None and transaction_of(event) == self._own

    def is_of_mover(self, event: Document) -> bool:
        """Return whether a mover caused the event; another move's only with ``of_all``."""
        return self._movers is not None and transaction_of(event) == self._movers

    def close(self) -> None:
        """Close the server's cursor."""
        self._stream.close()


def namespace_of(event: Mapping[str, Any]) -> str:
    """Return ``database.collection`` of an event, or the database alone if it has no collection."""
    place = event.get("ns", {})
    return f"{place.get('db')}.{place['coll']}" if place.get("coll") else str(place.get("db"))


def transaction_of(event: Mapping[str, Any]) -> tuple[Any, int] | None:
    """Return (session id, number) of the transaction that an event belongs to."""
    return (event["lsid"]["id"], event["txnNumber"]) if "txnNumber" in event and "lsid" in event else None


def _start_at(position: Position, session: ClientSession) -> dict[str, Any]:
    """The arguments with which ``watch`` starts at a position."""
    if "token" in position:
        return {"resume_after": dict(position["token"])}
    session.advance_operation_time(position["at"])
    return {"start_at_operation_time": position["at"]}


def _validator_of_event() -> dict[str, Any]:
    """What an event says of a validator, as an expression: its first two clauses, level and action; missing if it says nothing.

    The whole validator is there three times, which takes long to read while apps wait.
    """
    place = "$operationDescription"
    clauses = {"$getField": {"field": {"$literal": "$and"}, "input": f"{place}.validator"}}
    names = ("validator", "validationLevel", "validationAction")
    said = {"$or": [{"$ne": [{"$type": f"{place}.{name}"}, "missing"]} for name in names]}
    head = {"$cond": [{"$isArray": [clauses]}, {"$slice": [clauses, 2]}, []]}
    return {"$cond": [said, {"head": head, "level": f"{place}.{names[1]}", "action": f"{place}.{names[2]}"}, "$$REMOVE"]}


def _mark_of_event(lease: MoveLease) -> dict[str, Any]:
    """The number of a mark, as an expression on its change event (an update, or the insert of the first one)."""
    number = {"$ifNull": ["$updateDescription.updatedFields.batches", "$fullDocument.batches"]}
    return {"$cond": [{"$eq": ["$ns.coll", lease.namespace[1]]}, number, None]}
