"""Supervises the worker processes of a sidecar: forks them, replaces dead ones, and ends them together.

The supervisor has imported everything that answering needs, and it holds the listening sockets. A worker that dies is therefore
replaced within milliseconds from the saved table, and new connections wait instead of being refused. A worker that keeps dying
is replaced after growing pauses.

The first worker is forked at once. The others are forked after the supervisor has imported the rest, so that they share that
memory.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP}
STEADY_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
LOOK_SECONDS = 0.5
END_SECONDS = 10.0
"""Seconds that workers have to end before they are killed."""

Work = Callable[[int, int], None]
"""Runs a worker, given its number and a file descriptor that reaches its end when the supervisor exits."""

log = logging.getLogger(__name__)


class Supervisor:
    """Runs ``work`` in ``number`` forked processes until SIGTERM or SIGINT, and hands SIGHUP on to them.

    Use it before any thread is started.

    ``prepare`` runs after the first worker is forked and before the others are.
    """

    def __init__(self, number: int, work: Work, prepare: Callable[[], None] = lambda: None) -> None:
        self._number, self._work, self._prepare = number, work, prepare
        self._pids: dict[int, tuple[int, float]] = {}
        self._waiting: dict[int, float] = {}
        self._pauses = [0.0] * number
        self._life, self._hold = os.pipe()

    def run(self) -> None:
        """Return when all workers have ended."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._start(0)
        if self._number > 1:
            self._prepare()
        for number in range(1, self._number):
            self._start(number)
        while True:
            found = signal.sigtimedwait(SIGNALS, self._patience())
            if found is not None and found.si_signo == signal.SIGHUP:
                self._send(signal.SIGHUP)
            elif found is not None and found.si_signo != signal.SIGCHLD:
                break
            self._reap()
            for number in [n for n, at in self._waiting.items() if time.monotonic() >= at]:
                self._start(number)
        self._end()

    def _patience(self) -> float:
        """Seconds until the next worker is due to be replaced, at most ``LOOK_SECONDS``."""
        return min((LOOK_SECONDS, *(max(0.0, at - time.monotonic()) for at in self._waiting.values())))

    def _start(self, number: int) -> None:
        self._waiting.pop(number, None)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self._pids[pid] = (number, time.monotonic())
            return
        code = 1
        try:
            os.close(self._hold)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the worker handles it
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            self._work(number, self._life)
            code = 0
        except Exception:
            log.exception("worker %d failed", number)
        finally:
            logging.shutdown()
            os._exit(code)

    def _reap(self) -> None:
        for pid, status in self._ended():
            number, began = self._pids.pop(pid)
            now = time.monotonic()
            pause = 0.0 if now - began >= STEADY_SECONDS else self._pauses[number]
            self._pauses[number] = min(LONGEST_PAUSE, pause * 2 or FIRST_PAUSE)
            why = f"signal {-status}" if status < 0 else f"code {status}"
            log.error("worker %d (process %d) ended with %s; it is replaced in %.1f s", number, pid, why, pause)
            self._waiting[number] = now + pause

    def _ended(self) -> list[tuple[int, int]]:
        found = []
        for pid in list(self._pids):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                found.append((pid, os.waitstatus_to_exitcode(status)))
        return found

    def _end(self) -> None:
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        while self._pids and time.monotonic() < deadline:
            for pid, _ in self._ended():
                del self._pids[pid]
            time.sleep(0.02)
        self._send(signal.SIGKILL)
        for pid in self._pids:
            os.waitpid(pid, 0)

    def _send(self, number: signal.Signals) -> None:
        for pid in self._pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
