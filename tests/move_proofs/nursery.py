"""A process that has imported everything and forks a child for each operation, so that a case costs no new interpreter.

It opens no connection itself; each child makes its own ``Wiring``. Requests and answers are lines of JSON. A request is either
``{operation, arguments, environment, log, halt}``, answered by ``{pid}``, or ``{wait: pid}``, answered by ``{ended, code}``
once the child has ended or stopped, or ``{poll: pid}``, answered at once.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DUMP_SECONDS = 0.5
"""A child writes its threads' stacks to its output within this time."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: ``exited`` with a code, ``killed`` by a signal, or ``stopped``."""

    how: str
    code: int
    effects: tuple[str, ...]
    output: str


class Nursery:
    """The parent's side. Safe for several threads; waiting blocks the others."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock, self._number = folder, threading.Lock(), 0
        self._logs: dict[int, Path] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.move_proofs.nursery"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip

    def start(self, environment: Mapping[str, str], operation: str, *arguments: str, halt: Any = None) -> int:
        """Start an operation in a child and return its process id."""
        with self._lock:
            self._number += 1
            log = self._folder / f"child-{self._number}"
            asked = {"operation": operation, "arguments": arguments, "environment": dict(environment), "log": str(log)}
            pid = int(self._ask({**asked, "halt": None if halt is None else asdict(halt)})["pid"])
            self._logs[pid] = log
        return pid

    def wait(self, pid: int) -> Ended:
        """Wait until a child has ended or stopped."""
        with self._lock:
            answer = self._ask({"wait": pid})
        return self._ended(pid, answer)

    def poll(self, pid: int) -> Ended | None:
        """Return how a child has ended. None: it runs or is stopped."""
        with self._lock:
            answer = self._ask({"poll": pid})
        return None if answer["ended"] in ("running", "stopped") else self._ended(pid, answer)

    def _ended(self, pid: int, answer: Mapping[str, Any]) -> Ended:
        log = self._logs[pid]
        effects = tuple(log.read_text().splitlines()) if log.exists() else ()
        output = log.with_suffix(".out")  # a child that was killed at once has none
        return Ended(answer["ended"], answer["code"], effects, output.read_text() if output.exists() else "")

    def told(self, pid: int) -> str:
        """What a running child has done last and printed, and where its threads are, for people."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)
        time.sleep(DUMP_SECONDS)
        log = self._logs[pid]
        output = log.with_suffix(".out")
        return "\n".join(["", *(log.read_text().splitlines()[-8:] if log.exists() else ()), output.read_text()])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, request: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        return json.loads(self._process.stdout.readline())


def serve() -> None:
    """Answer requests until the input ends."""
    import tests.move_proofs.mutants
    import tests.move_proofs.operations  # noqa: F401  # imported before the first fork

    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            answer = _waited(asked["wait"], os.WUNTRACED)
        elif "poll" in asked:
            answer = _waited(asked["poll"], os.WNOHANG)
        else:
            answer = {"pid": _forked(asked)}
        print(json.dumps(answer), flush=True)


def _waited(pid: int, options: int) -> dict[str, Any]:
    found, status = os.waitpid(pid, options)
    if found == 0:
        return {"ended": "running", "code": 0}
    if os.WIFSTOPPED(status):
        return {"ended": "stopped", "code": os.WSTOPSIG(status)}
    if os.WIFSIGNALED(status):
        return {"ended": "killed", "code": os.WTERMSIG(status)}
    return {"ended": "exited", "code": os.WEXITSTATUS(status)}


def _forked(asked: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with Path(asked["log"]).with_suffix(".out").open("w", buffering=1) as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            faulthandler.register(signal.SIGUSR1, output)
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                code = _run(asked)
    finally:
        os._exit(code)
    return 0


def _run(asked: Mapping[str, Any]) -> int:
    from tests.move_proofs.operations import perform

    os.environ.update(asked["environment"])
    try:
        print(perform(asked["operation"], asked["arguments"], Path(asked["log"]), asked["halt"]))
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve()
