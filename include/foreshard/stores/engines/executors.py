"""Runs Python functions on Spark's executors, and refuses executors that lack what they need in one line."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import foreshard
from foreshard.errors import ConfigurationError
from foreshard.stores.engines.spark_session import SETTING

_Work = TypeVar("_Work")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_WITHOUT = "install foreshard {} on all executors, or name a Python that has it by spark.pyspark.python"
_UNSHARED = "put FORESHARD_DATA_DIR on storage that all executors reach under the same path, as the task's user"


class Executors:
    """The executors of a session. ``folder``: a folder that they share with this process."""

    def __init__(self, session: Any, folder: Path) -> None:
        self._context = session.sparkContext
        self._token = uuid4().hex
        self._probe = folder.resolve() / "probe"
        self._probe.write_text(self._token)

    def check(self) -> None:
        """Raise :class:`ConfigurationError` if an executor lacks foreshard, has another version, or does not see the folder."""
        count = max(2, self._context.defaultParallelism)
        self._run(None, [b""] * count)

    def each(self, work: _Work, function: Callable[[_Work, _Item], _Result], items: Sequence[_Item]) -> list[_Result]:
        """Return ``function(work, item)`` of each item, in order. Items may be kept in Spark's files, ``work`` is not."""
        return self._run(pickle.dumps((function, work)), [pickle.dumps(item) for item in items])

    def _run(self, job: bytes | None, items: Sequence[bytes]) -> list[Any]:
        if not items:
            return []
        guarded = _guarded(job, foreshard.__version__, str(self._probe), self._token)
        answers = self._context.parallelize(items, len(items)).mapPartitions(guarded).collect()
        for refused, where, said in answers:
            if refused:
                remedy = _UNSHARED if refused == "folder" else _WITHOUT.format(foreshard.__version__)
                raise ConfigurationError(SETTING, f"it is spark, but the executor on {where} {said}", remedy)
        return [pickle.loads(said) for _, _, said in answers]  # noqa: S301 (from our own executors)


def _guarded(
    job: bytes | None, version: str, probe: str, token: str
) -> Callable[[Iterator[bytes]], Iterator[tuple[str, str, Any]]]:
    """Return a function that looks first, and then does the job.

    It is sent by its code, not by its name, and gets bytes: so it also runs where foreshard is missing. An answer says what is
    refused (if anything), where, and the result.
    """

    def run(items: Iterator[bytes]) -> Iterator[tuple[str, str, Any]]:
        import os
        import pickle
        import socket
        import sys

        where = f"{socket.gethostname()} ({sys.executable})"
        os.environ.setdefault("POLARS_MAX_THREADS", "1")  # one executor runs as many of these as it has cores
        try:
            import foreshard as found
        except ImportError:
            yield "package", where, "has no foreshard"
            return
        if found.__version__ != version:
            yield "package", where, f"has foreshard {found.__version__}"
            return
        folder = os.path.dirname(probe)  # noqa: PTH120 (what a process without foreshard can do)
        try:
            with open(probe) as file:  # noqa: PTH123
                seen = file.read() == token
        except OSError:
            seen = False
        if not seen or not os.access(folder, os.W_OK | os.X_OK):
            yield "folder", where, f"can't {'write to' if seen else 'see'} {folder}"
            return
        function, work = pickle.loads(job) if job is not None else (None, None)  # noqa: S301 (from our own task)
        for item in items:
            yield "", where, pickle.dumps(function(work, pickle.loads(item)) if function else None)  # noqa: S301

    return run
