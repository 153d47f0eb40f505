"""Load generators: wrk at full speed, and an open loop (``open_loop.c``) at a given rate, independent of the answers.

The open loop is a C program, so that the client is not the bottleneck. It sends at random (Poisson) times, measures each
request from the time when it was due, and reports how late it was itself.
"""

from __future__ import annotations

import atexit
import re
import shutil
import subprocess
import tempfile
from array import array
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.sidecar_servers import Server, program

CONNECTIONS = 32
MANY = 128
CLIENT_CORE = 1
SOURCE = Path(__file__).with_name("open_loop.c")
SCRIPT = """
local made, at = {{}}, 0
init = function(args)
  math.randomseed({seed})
  for i = 1, 200000 do made[i] = wrk.format("GET", string.format("/v1/route/key-%07d?op=read", math.random(0, {last}))) end
end
request = function() at = at % 200000 + 1; return made[at] end
"""


class Request(NamedTuple):
    """One request of an open loop: the times (s, of ``time.perf_counter``) when it was due, sent and answered."""

    due: float
    sent: float
    answered: float

    @property
    def wait(self) -> float:
        """Seconds from the time when the request was due to its answer."""
        return self.answered - self.due


def lookups_per_cpu_second(server: Server, keys: int, seconds: float, seed: int) -> float:
    """Run wrk on its own core; return answers per second of the server's processor time."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.format(seed=seed, last=keys - 1))
        script.flush()
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", script.name]
        command = ["taskset", "-c", str(CLIENT_CORE), program("wrk"), *options, f"http://127.0.0.1:{server.port}/"]
        before = server.cpu_seconds()
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        used = server.cpu_seconds() - before
    found = re.search(r"(\d+) requests in", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"{server.name} answered wrongly:\n{output}")
    return int(found[1]) / used


@cache
def compiled(source: Path) -> Path:
    """Compile a C program for this run."""
    folder = Path(tempfile.mkdtemp(prefix="foreshard-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = folder / source.stem
    subprocess.run([program("cc"), "-O2", "-o", str(made), str(source), "-lm"], check=True)
    return made


def begin(
    server: Server, rate: float, seconds: float, keys: int, *, connections: int = CONNECTIONS, seed: int = 1
) -> subprocess.Popen[bytes]:
    """Start an open loop on the client's core: ``rate`` lookups per second of ``keys`` keys, over ``connections``."""
    arguments = (server.port, rate, seconds, keys, connections, seed)
    command = ["taskset", "-c", str(CLIENT_CORE), str(compiled(SOURCE)), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> list[Request]:
    """Return the requests in the order of their answers. Raise unless all answers were correct."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit("the load broke off")
    moments = iter(array("d", output))
    return [Request(*three) for three in zip(moments, moments, moments, strict=True)]


def quantile(values: list[float], share: float) -> float:
    """The quantile of ``values`` at ``share``."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
