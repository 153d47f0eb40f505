"""A session of Spark, and its errors as one line."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from foreshard.errors import ClusterFailed, ConfigurationError, ForeshardError

SETTING = "FORESHARD_OBSERVE__ENGINE"
_OPTIONS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
_LOCAL = {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
"""A master in this process listens on the loopback only."""
_CAUSE = re.compile(r"[\w.]+(?:Error|Exception): .+")
_LONGEST = 300
LONGEST_WAIT = timedelta(minutes=5)


@contextmanager
def spark_session(master: str, options: Mapping[str, str]) -> Iterator[Any]:
    """Yield a session. It ends with the block, unless it ran before.

    Raise :class:`ConfigurationError` if it can't be started, and :class:`ClusterFailed` if a job of the block fails,
    or if no executor comes.
    """
    options = {**_OPTIONS, **(_LOCAL if master.startswith("local") else {}), **options}
    session, owned = _started(master, options)
    context, python = session.sparkContext, session.sparkContext.pythonExec
    context.pythonExec = _python(master, options)
    try:
        await_executor(context, LONGEST_WAIT)
        yield session
    except Exception as error:
        if not _of_spark(error):
            raise
        raise ClusterFailed(master, cause_of(error)) from error
    finally:
        context.pythonExec = python
        if owned:
            with suppress(Exception):  # one whose Java has died can't be stopped
                session.stop()


def _started(master: str, options: Mapping[str, str]) -> tuple[Any, bool]:
    """Return the session that runs, or a new one, and whether it is new."""
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        remedy = "install it (pip install 'foreshard[spark]') and Java 17, or choose polars"
        raise ConfigurationError(SETTING, "it is spark, but PySpark is not installed", remedy) from error
    builder = SparkSession.builder.appName("foreshard observe").master(master)
    for name, value in options.items():
        builder = builder.config(name, value)
    owned = SparkSession.getActiveSession() is None
    try:
        return builder.getOrCreate(), owned
    except Exception as error:
        why = "its master does not answer" if "stopped SparkContext" in str(error) else cause_of(error)
        said = f"Spark can't be started at {master} ({why})"
        remedy = "see FORESHARD_OBSERVE__SPARK_MASTER and …SPARK_OPTIONS; Spark 4.0 needs Java 17"
        raise ConfigurationError(SETTING, said, remedy) from error


def await_executor(context: Any, longest: timedelta) -> None:
    """Wait until a cluster has given an executor. Spark itself would wait for ever. Raise :class:`ClusterFailed`."""
    end = time.monotonic() + longest.total_seconds()
    while not context.master.startswith("local") and not _executors(context):
        if time.monotonic() > end:
            why = "its workers are gone, busy, or smaller than the executors that are asked for"
            raise ClusterFailed(context.master, f"no executor came in {longest.total_seconds():.0f} s: {why}")
        time.sleep(0.2)


def _executors(context: Any) -> int:
    """Return the number of executors. Spark counts the task itself as one."""
    return int(context._jsc.sc().getExecutorMemoryStatus().size()) - 1


def shared_address(path: Path) -> str:
    """Return the address of a file that the executors share. A plain path might mean the cluster's own file system."""
    return f"file://{path.resolve()}"


def cause_of(error: Exception) -> str:
    """Return what made a job fail, as one line: the last error of Python or Java that Spark names."""
    lines = [line.strip().removeprefix(": ").removeprefix("Caused by: ") for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("at ")]
    named = [line for line in lines if _CAUSE.match(line)]
    return (named or lines or [type(error).__name__])[-1 if named else 0][:_LONGEST]


def _python(master: str, options: Mapping[str, str]) -> str:
    """Return the executors' Python. PySpark itself looks at the option only when a script is submitted."""
    here = sys.executable if master.startswith("local") else "python3"
    return options.get("spark.pyspark.python") or os.environ.get("PYSPARK_PYTHON") or here


def _of_spark(error: Exception) -> bool:
    """Return whether an error came from Spark or from the connection to its process."""
    return not isinstance(error, ForeshardError) and type(error).__module__.startswith(("py4j.", "pyspark."))
