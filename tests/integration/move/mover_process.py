"""A mover in its own process: ``mover_process.py run|revert|clean MOVE_ID [POINT]``.

At POINT the process kills itself with SIGKILL. POINT is a journal state that was just entered (for ``switched``: inside the
transaction that enters it, before the commit), or a place between two states.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from foreshard.stages import migrate
from foreshard.stores.control.move_journal import MongoMoveJournal
from foreshard.stores.control.routing.store import MongoRoutingStore
from foreshard.stores.partition._move_lease import MoveLease
from foreshard.stores.partition.unit_copy import MongoUnitCopy
from foreshard.wiring import Wiring

PLACES = {
    "claimed": (MongoUnitCopy, "claim", "before"),
    "prepared": (MongoUnitCopy, "prepare", "after"),
    "transaction": (MoveLease, "bump", "after"),
    "batch": (MongoUnitCopy, "write", "after"),
    "fence-set": (MongoUnitCopy, "fence", "after"),
    "fence-lifted": (MongoUnitCopy, "unfence", "after"),
    "published": (MongoRoutingStore, "publish", "after"),
    "removed": (MongoUnitCopy, "remove_unchanged", "after"),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(point: str) -> None:
    """Arrange the kill at ``point``. ``place@state`` means the place while the journal is in that state."""
    place, _, wanted = point.partition("@")
    seen: list[str] = []
    advance = MongoMoveJournal.advance

    def advance_and_die(self: Any, record: Any, to: Any, *rest: Any, **more: Any) -> Any:
        entered = advance(self, record, to, *rest, **more)
        seen.append(str(to))
        if place == str(to):
            die()
        return entered

    MongoMoveJournal.advance = advance_and_die  # type: ignore[method-assign]
    if place not in PLACES:
        return
    owner, name, when = PLACES[place]
    original: Callable[..., Any] = getattr(owner, name)

    def cut_off(self: Any, *arguments: Any, **named: Any) -> Any:
        due = not wanted or (seen and seen[-1] == wanted)
        if due and when == "before":
            die()
        result = original(self, *arguments, **named)
        if due:
            die()
        return result

    setattr(owner, name, cut_off)


def main(command: str, move_id: str, point: str = "") -> None:
    if point:
        die_at(point)
    with Wiring() as wiring:
        if command == "run":
            print(migrate.run_move(wiring, move_id))
        elif command == "revert":
            print(migrate.revert_move(wiring, move_id))
        else:
            print(migrate.clean_moves(wiring))


if __name__ == "__main__":
    main(*sys.argv[1:])
