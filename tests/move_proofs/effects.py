"""Every external effect of a process: the commands by which it changes a database, counted as they are sent.

A process may end itself (SIGKILL) or pause itself (SIGSTOP) just before its n-th effect. Between two effects it only reads, so
these are all the points at which a crash can differ.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pymongo import monitoring

CHANGING = frozenset(
    {"insert", "update", "delete", "findAndModify", "collMod", "create", "createIndexes", "drop", "commitTransaction"}
)


@dataclass(frozen=True, slots=True)
class Halt:
    """Where a process halts: before effect ``at`` (1 is the first) among those whose label contains ``among``."""

    at: int
    how: str = "SIGKILL"
    among: str = ""

    @property
    def signal(self) -> signal.Signals:
        return signal.Signals[self.how]


class EffectCounter(monitoring.CommandListener):
    """Writes each effect's label to ``log`` before the effect, and halts the process before one of them."""

    def __init__(self, log: Path, halt: Halt | None) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._halt, self._seen = halt, 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name not in CHANGING:
            return
        label = f"{step_of(sys._getframe())}: {event.command_name} {event.command.get(event.command_name)}"
        os.write(self._log, f"{label}\n".encode())
        if self._halt is None or self._halt.among not in label:
            return
        self._seen += 1
        if self._seen == self._halt.at:
            os.kill(os.getpid(), self._halt.signal)

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


def step_of(frame: FrameType | None) -> str:
    """Return the names of the state machine's functions that led to a command, innermost last."""
    names: list[str] = []
    while frame is not None:
        if "/foreshard/move/" in frame.f_code.co_filename:
            names.append(frame.f_code.co_name)
        frame = frame.f_back
    steps = [name for name in reversed(names) if name not in ("drive", "step", "run_move", "__init__")]
    return "/".join(steps[-3:]) or "stage"
