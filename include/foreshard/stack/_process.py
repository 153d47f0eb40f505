"""A process of the stack: started in its own session with a log file and a pid file, and ended only by its own id."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foreshard.errors import PortInUse, Unreachable

_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}
"""Processes started by this one, so that they can be reaped."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A command, its name and its environment. Its files are in ``folder``."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] | None = None

    @property
    def log_path(self) -> Path:
        """The file of its output."""
        return self.folder / f"{self.name}.log"

    @property
    def pid_path(self) -> Path:
        """The file of its process id and the kernel's start time of that process."""
        return self.folder / f"{self.name}.pid"


def free_port() -> int:
    """Return a loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_free_port(service: str, port: int) -> None:
    """Raise :class:`PortInUse` if something listens on the loopback ``port``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortInUse(service, port) from error


def start(spec: ProcessSpec) -> int:
    """Start the process unless it is running. Return its id."""
    running = running_pid(spec.pid_path)
    if running is not None:
        return running
    spec.folder.mkdir(parents=True, exist_ok=True)
    with spec.log_path.open("ab") as log:
        process = subprocess.Popen(
            list(spec.command),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=dict(spec.environment) if spec.environment is not None else None,
            start_new_session=True,
        )
    _CHILDREN[process.pid] = process
    spec.pid_path.write_text(f"{process.pid} {_started_at(process.pid)}\n")
    return process.pid


def stop(pid_path: Path, patience: float = 20.0) -> bool:
    """End the process in ``pid_path`` and its whole session. Return whether it was running."""
    pid = running_pid(pid_path)
    if pid is not None:
        _signal(session_members(pid), signal.SIGTERM)
        if not _wait_until(lambda: not session_members(pid), patience):
            _signal(session_members(pid), signal.SIGKILL)
            _wait_until(lambda: not session_members(pid), patience)
        _reap(pid)
    pid_path.unlink(missing_ok=True)
    return pid is not None


def running_pid(pid_path: Path) -> int | None:
    """Return the id in ``pid_path`` if that process still runs, not a later one with the same number."""
    try:
        pid, started = pid_path.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    _reap(int(pid))
    return int(pid) if _started_at(int(pid)) == started else None


def wait_until_ready(service: str, address: str, ready: Callable[[], bool], spec: ProcessSpec, patience: float) -> None:
    """Wait until ``ready()``. Raise :class:`Unreachable` if the process ends or ``patience`` seconds have passed."""
    deadline = time.monotonic() + patience
    while not ready():
        if running_pid(spec.pid_path) is None:
            raise Unreachable(service, address, f"it ended at once; its log {spec.log_path} says why")
        if time.monotonic() > deadline:
            raise Unreachable(service, address, f"it was not ready after {patience:.0f} s; see its log {spec.log_path}")
        time.sleep(0.1)


def port_answers(port: int) -> bool:
    """Return whether something accepts connections on the loopback ``port``."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def session_members(session: int) -> tuple[int, ...]:
    """Return the living processes of a session. A session started by :func:`start` has its first process's id."""
    for child in list(_CHILDREN):
        _reap(child)
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return tuple(pid for pid in pids if (fields := _stat(pid)) and fields[3] == str(session))


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the command name (proc(5)); empty for a zombie or a missing process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [] if fields[0] == "Z" else fields


def _started_at(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if fields else ""


def _reap(pid: int) -> None:
    if pid in _CHILDREN and _CHILDREN[pid].poll() is not None:
        del _CHILDREN[pid]


def _signal(pids: Iterable[int], signum: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def _wait_until(condition: Callable[[], bool], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
