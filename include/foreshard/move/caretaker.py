"""Care for switched moves: forward late changes, and clean the sources that are due. One move's trouble stops no other."""

from __future__ import annotations

import logging
from collections.abc import Callable

from foreshard.errors import MoveHasEnded, MoveSuperseded
from foreshard.model.move_state import CLEANABLE, ENDED, MoveState
from foreshard.move.context import MoveContext
from foreshard.move.mover import step
from foreshard.move.session import MoveSession, Paused
from foreshard.ports.move_journal import MoveRecord

LOG = logging.getLogger("foreshard.move")


class Caretaker:
    """The switched moves that this process cares for. Each keeps its lease, and its place in the source's changes.

    ``troubles`` are the errors of the moves that it has given up. Not thread-safe.
    """

    def __init__(self, context: Callable[[MoveRecord], MoveContext]) -> None:
        self._context = context
        self._held: dict[str, MoveSession] = {}
        self.troubles: list[Exception] = []

    @property
    def held(self) -> int:
        """The number of moves."""
        return len(self._held)

    def take(self, record: MoveRecord, *, silent: bool = False) -> None:
        """Care for a move, with ``silent`` only if no other process does. A move that has ended meanwhile is left."""
        if record.move_id in self._held:
            return
        context = self._context(record)
        try:
            session = MoveSession(context, context.journal.take(record.move_id, CLEANABLE, silent=silent))
        except (MoveHasEnded, MoveSuperseded):
            context.close()
            return
        self._held[record.move_id] = session.__enter__()

    def step(self, *, keep: bool) -> tuple[MoveRecord, ...]:
        """Take a step of each move. Return the ended ones. Without ``keep``, moves that must wait are given up."""
        ended = []
        for session in tuple(self._held.values()):
            before = session.record.state
            if self._step(session):
                ended.append(session.record)
            elif not keep and session.record.state is MoveState.SWITCHED and before is MoveState.SWITCHED:
                self._give_up(session)
        return tuple(ended)

    def _step(self, session: MoveSession) -> bool:
        """Take one step of a move. Return whether it has ended. A move in trouble is given up."""
        try:
            step(session)
        except Paused:
            session.pause()
            self._forget(session)
        except MoveSuperseded:
            self._forget(session)
        except Exception as error:
            LOG.warning("move %s of %s: %s", session.record.move_id, session.record.move.label, error)
            self.troubles.append(error)
            self._give_up(session, str(error).splitlines()[0])
        if session.record.state in ENDED:
            self._forget(session)
        return session.record.state in ENDED

    def _give_up(self, session: MoveSession, waiting: str | None = None) -> None:
        if session.record.lease_until is not None:
            try:
                session.release(waiting)
            except Exception as error:
                LOG.info("move %s keeps its lease until it ends: %s", session.record.move_id, error)
        self._forget(session)

    def _forget(self, session: MoveSession) -> None:
        if self._held.pop(session.record.move_id, None) is not None:
            session.__exit__(None, None, None)
            session.context.close()

    def close(self) -> None:
        """Give all moves up. Their leases end at once."""
        for session in tuple(self._held.values()):
            self._give_up(session)
