"""A standalone Spark cluster on the loopback: a master and two workers, which are started and stopped by their process ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshard.stack._process import free_port
from foreshard.stores.engines.spark_session import spark_session

MEMORY = "512m"
ENCRYPTED = {
    "spark.authenticate": "true",
    "spark.authenticate.secret": "what the cluster shares",
    "spark.network.crypto.enabled": "true",
}
"""The options of encrypted connections, as the docs advise."""
OPTIONS = {
    **ENCRYPTED,
    "spark.pyspark.python": sys.executable,
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "600m",
    "spark.executor.memory": MEMORY,
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.log.level": "OFF",
    "spark.eventLog.enabled": "true",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


class SparkCluster:
    """A master and ``workers`` of one core each, with their files below ``folder``."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.folder, self._count, self._started = folder, workers, 0
        self._port, self._page = free_port(), free_port()
        self.master = f"spark://127.0.0.1:{self._port}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the processes, and wait for the workers to register."""
        ports = ("--host", "127.0.0.1", "--port", str(self._port), "--webui-port", str(self._page))
        self._run("master", "org.apache.spark.deploy.master.Master", *ports)
        self._wait_for('"status" : "ALIVE"')
        self.add_workers()

    def add_workers(self) -> None:
        """Start workers instead of those that were killed."""
        for _ in range(self._count + 1 - len(self._processes)):
            self._start_worker()
        self._wait_for(f'"aliveworkers" : {self._count}')

    def kill_worker(self) -> None:
        """Kill the last worker and its executors at once."""
        process = self._processes.pop()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def stop(self) -> None:
        """End what was started. Each process leads a group with the executors that it has started."""
        for process in reversed(self._processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        self._processes = []

    def _start_worker(self) -> None:
        number, self._started = self._started, self._started + 1
        place = ("--host", "127.0.0.1", "--port", str(free_port()), "--webui-port", str(free_port()))
        size = ("--cores", "1", "--memory", MEMORY, "--work-dir", str(self.folder / f"work-{number}"))
        self._run(f"worker-{number}", "org.apache.spark.deploy.worker.Worker", *place, *size, self.master)

    def _run(self, name: str, kind: str, *options: str) -> None:
        import pyspark

        home = Path(pyspark.__file__).parent
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "SPARK_HOME": str(home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "128m",
            "SPARK_CONF_DIR": str(self._configured()),
            "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        }
        with (self.folder / f"{name}.log").open("wb") as log:
            command = [str(home / "bin" / "spark-class"), kind, *options]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True))

    def _configured(self) -> Path:
        """Return a folder with the options of the cluster's own processes."""
        folder = self.folder / "conf"
        folder.mkdir(exist_ok=True)
        (folder / "spark-defaults.conf").write_text("".join(f"{name} {value}\n" for name, value in ENCRYPTED.items()))
        return folder

    def _wait_for(self, text: str) -> None:
        said, end = "", time.monotonic() + 60
        while text not in said:
            if time.monotonic() > end or any(process.poll() is not None for process in self._processes):
                raise TimeoutError(f"the cluster did not start; see {self.folder}/*.log; it says {said[:500]}")
            time.sleep(0.1)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._page}/json/", timeout=5) as page:
                    said = page.read().decode()
            except OSError:
                said = ""


@dataclass
class Running:
    """A cluster, its session, and its options. ``events``: the folder of Spark's event log."""

    cluster: SparkCluster
    session: Any
    options: dict[str, str]
    events: Path


@contextmanager
def running_cluster(folder: Path) -> Iterator[Running]:
    """Yield a cluster with a session. All its processes end with the block."""
    cluster, events = SparkCluster(folder / "cluster"), folder / "events"
    events.mkdir()
    options = {**OPTIONS, "spark.eventLog.dir": f"file://{events}"}
    try:
        cluster.start()
        with spark_session(cluster.master, options) as session:
            yield Running(cluster, session, options, events)
    finally:
        cluster.stop()
