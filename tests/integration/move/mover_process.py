"""A mover in its own process: ``mover_process.py MOVE_ID POINT``. It kills itself with SIGKILL at POINT.

The crash matrix (``tests/move_proofs``) kills movers at every point.
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
from foreshard.stores.partition.unit_copy import MongoUnitCopy
from foreshard.wiring import Wiring

PLACES = {"fence-set": (MongoUnitCopy, "fence"), "published": (MongoRoutingStore, "publish")}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(point: str) -> None:
    """Arrange the kill after ``point``. ``place@state`` means the place while the journal is in that state."""
    place, _, wanted = point.partition("@")
    seen: list[str] = []
    advance = MongoMoveJournal.advance

    def noted(self: Any, record: Any, to: Any, *rest: Any, **more: Any) -> Any:
        seen.append(str(to))
        return advance(self, record, to, *rest, **more)

    owner, name = PLACES[place]
    original: Callable[..., Any] = getattr(owner, name)

    def cut_off(self: Any, *arguments: Any, **named: Any) -> Any:
        result = original(self, *arguments, **named)
        if not wanted or (seen and seen[-1] == wanted):
            die()
        return result

    MongoMoveJournal.advance = noted  # type: ignore[method-assign]
    setattr(owner, name, cut_off)


def main(move_id: str, point: str) -> None:
    die_at(point)
    with Wiring() as wiring:
        print(migrate.run_move(wiring, move_id))


if __name__ == "__main__":
    main(*sys.argv[1:])
