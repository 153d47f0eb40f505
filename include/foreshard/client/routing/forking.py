"""Locks in the child of a fork. A thread of the parent may have held one, and that thread does not exist in the child."""

from __future__ import annotations

import os
from typing import Any, Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Has locks, and makes new ones."""

    def renew(self) -> None:
        """Make new locks. Called in the child of a fork, before any other code runs there."""


_known: WeakSet[Any] = WeakSet()


def renewed_after_fork(one: Renewable) -> None:
    """Renew the locks of ``one`` in every child of this process, as long as it exists."""
    _known.add(one)


def _renew_all() -> None:
    for one in list(_known):
        one.renew()


os.register_at_fork(after_in_child=_renew_all)
