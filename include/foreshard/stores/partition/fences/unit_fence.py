"""The fences of a move's units in every sharded collection of one partition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError

from foreshard.errors import ForeshardError, MoveRefused, Unreachable
from foreshard.model.unit_set import UnitSet
from foreshard.routing.fence_lists import FenceLists
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition.fences.fence import ArmedChange, MongoFence

UNAUTHORIZED = 13


class UnitFence:
    """The part of :class:`foreshard.ports.migration.UnitCopy` that fences. ``fences``: one per namespace."""

    def __init__(
        self,
        partition_id: str,
        move_id: str,
        units: UnitSet,
        client: MongoClient[Document],
        fences: Mapping[str, MongoFence],
    ) -> None:
        self._partition_id, self._move_id, self._client = partition_id, move_id, client
        self._fenced_units, self._fences = units, fences
        self._fenced: Mapping[str, int] = {}
        self._armed: dict[str, ArmedChange] = {}
        self._opens = False

    def explain(self, error: Exception) -> ForeshardError | None:
        """Return the error for people if this partition does not answer or forbids something."""
        if not isinstance(error, PyMongoError):
            return None
        if isinstance(error, OperationFailure) and error.code == UNAUTHORIZED:
            problem = f"a partition forbids it: {str(error).split(', full error')[0]}"
            return MoveRefused(self._move_id, problem, "grant the user readWrite on the sharded and the bookkeeping database")
        try:
            self._client.admin.command("ping")
        except PyMongoError:
            nodes = sorted(self._client.topology_description.server_descriptions())
            address = ", ".join(f"{host}:{port}" for host, port in nodes)
            return Unreachable(f"partition {self._partition_id}", address, "start it or correct its address")
        return None

    def arm_fence(self) -> None:
        units = self._fenced_units
        self._arm(lambda lists: lists.fence(units.units, units.exceptions), opens=False)

    def arm_opening(self) -> None:
        units = self._fenced_units
        self._arm(lambda lists: lists.unfence(units.units, units.exceptions), opens=True)

    def _arm(self, edit: Callable[[FenceLists], FenceLists], *, opens: bool) -> None:
        self.settle()
        self._opens = opens
        try:
            for name, fence in sorted(self._fences.items()):
                self._armed[name] = fence.arm(edit)
        except BaseException:
            self.settle()
            raise

    def probe(self) -> None:
        for fence in self._fences.values():
            fence.probe()

    def fence(self) -> Mapping[str, int]:
        units = self._fenced_units
        self._fenced = self._imposed(opens=False) or {
            name: fence.fence(units.units, units.exceptions).revision for name, fence in self._fences.items()
        }
        return self._fenced

    def unfence(self) -> None:
        """Accept writes for the units again in every collection."""
        self._fenced = {}
        if not self._imposed(opens=True):
            for fence in self._fences.values():
                fence.unfence(self._fenced_units.units, self._fenced_units.exceptions)

    def _imposed(self, *, opens: bool) -> dict[str, int]:
        """Impose the armed changes, all collections at once. Return their revisions; nothing if none is armed.

        An armed fence must not be imposed by an opening: the fence may have failed, or its answer was lost. So it is ended.
        """
        if self._opens is not opens or any(change.imposed for change in self._armed.values()):
            self.settle()
        changes = tuple(self._armed.items())
        if len(changes) == 1:
            return {changes[0][0]: changes[0][1].impose().revision}
        with ThreadPoolExecutor(max(1, len(changes))) as pool:
            marks = pool.map(lambda change: change[1].impose(), changes)
            return {mark.namespace: mark.revision for mark in marks}

    def settle(self) -> None:
        armed, self._armed = self._armed, {}
        for change in armed.values():
            change.end()

    def is_fenced(self) -> bool:
        if self._fenced:  # nobody else lifts the fence of these units, so its revision says enough
            return all(fence.is_in_force(self._fenced[name]) for name, fence in self._fences.items())
        units = self._fenced_units
        return all(
            lists.covers(units.units, units.exceptions)
            for fence in self._fences.values()
            for lists in (fence.in_force().lists, fence.listed())
        )

    def _require_fence(self, namespace: str, session: ClientSession) -> None:
        """Raise :class:`MoveRefused` unless the units are refused here: where they are accepted, their owner may be."""
        units = self._fenced_units
        if not self._fences[namespace].refuses(units.units, units.exceptions, session):
            problem = f"{self._partition_id} accepts writes of its units in {namespace}, so their documents stay"
            raise MoveRefused(self._move_id, problem, "check the owner with `foreshard route`")
