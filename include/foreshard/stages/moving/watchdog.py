"""The watchdog of moves: a thread in the processes that live anyway. Several may run; leases keep them apart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from foreshard.stages.migrate import ResumeMovesPorts, caretaker, repair_settled_fences, rescue_moves, tend_moves

LOG = logging.getLogger("foreshard.move")
ROUND_SECONDS = 0.5
"""Pause between two rounds: a key is refused at most this much longer than its mover's lease."""
ROUNDS_A_REPAIR = 10
"""Every fence of every partition is read, so it is done every five seconds."""


class MoveWatchdog:
    """Rescues moves whose mover died while apps wait. With ``care``, it also forwards late changes, cleans sources, and
    repairs fences.

    Both have a thread of their own, because a cleaning may take long. Errors are logged, and it is tried again.
    """

    def __init__(self, ports: ResumeMovesPorts, *, care: bool) -> None:
        self._ports, self._stop = ports, threading.Event()
        loops = [self._rescue, *([self._care] if care else [])]
        self._threads = [threading.Thread(target=loop, name="foreshard-moves", daemon=True) for loop in loops]
        self._last: dict[str, str] = {}

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _rescue(self) -> None:
        while not self._stop.wait(ROUND_SECONDS):
            self._try("rescuing moves", lambda: rescue_moves(self._ports))

    def _care(self) -> None:
        carer = caretaker(self._ports)
        try:
            turn = 0
            while not self._stop.wait(ROUND_SECONDS):
                turn += 1
                self._try("caring for moves", lambda: tend_moves(self._ports, carer))
                if turn % ROUNDS_A_REPAIR == 0:
                    self._try("repairing fences", lambda: repair_settled_fences(self._ports))
        finally:
            self._try("giving moves up", carer.close)

    def _try(self, what: str, work: Callable[[], object]) -> None:
        """Do it. Log an error, but the same one only once in a row."""
        problem = ""
        try:
            work()
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        if problem and problem != self._last.get(what):
            LOG.warning("%s: %s", what, problem)
        self._last[what] = problem
