"""Reads an hour on Spark: executors read the parts of its source, and write their records to the shared data folder.

The task holds numbers only. Duplicates across bundles are found on the cluster by the hashes of their ids, and the bundles that
have some are read again without them. So the first record by the order of the log wins, as in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from foreshard.errors import ConfigurationError
from foreshard.observe.reading import HourRules, PartsWriter
from foreshard.stores.engines.executors import Executors
from foreshard.stores.engines.part_work import (
    BUNDLE,
    BUNDLE_BYTES,
    HASH,
    Bundle,
    BundleRead,
    BundleWork,
    bundles_of,
    count_lines,
    read_bundle,
)
from foreshard.stores.engines.spark_session import shared_address, spark_session
from foreshard.stores.files.log_parts import SourcePart, SourceVerdict
from foreshard.stores.files.log_splitting import numbered
from foreshard.stores.files.log_tables import Note


class SplitSource(Protocol):
    """A source whose hours can be read in parts."""

    def parts(self, hour: datetime, note: Note, most: int | None) -> tuple[Sequence[SourcePart], SourceVerdict]:
        """Return the parts that may have records of an hour, of about ``most`` bytes each, and what judges them."""


class SparkReader:
    """Implements :class:`foreshard.observe.reading.HourReader`."""

    def __init__(self, source: SplitSource, master: str, options: Mapping[str, str]) -> None:
        self._source, self._master, self._options = source, master, options

    def read(self, rules: HourRules, key: Callable[[], bytes], writer: PartsWriter, note: Note) -> int:
        """See :class:`foreshard.observe.reading.HourReader`."""
        parts, verdict = self._source.parts(rules.hour, note, BUNDLE_BYTES)
        if not parts:
            verdict.close()
            return 0
        work = BundleWork(rules, writer.folder(), _key_or_error(key))
        with spark_session(self._master, self._options) as session:
            executors = Executors(session, work.folder)
            executors.check()
            parts = numbered(parts, partial(executors.each, None, count_lines))
            bundles = bundles_of(parts, BUNDLE_BYTES)
            reads = _counted(executors.each(work, read_bundle, bundles), bundles, verdict)
            late = _late(session, reads, work.folder)
            if late is not None:
                again = [bundle for bundle in bundles if (late / f"{BUNDLE}={bundle.number}").is_dir()]
                others = {read.number: read for read in executors.each(replace(work, late=late), read_bundle, again)}
                reads = [others.get(read.number, read) for read in reads]
        for read in reads:
            if read.error is not None:
                raise read.error
            writer.add_part(read.records)
        return sum(read.duplicates for read in reads)


def _key_or_error(key: Callable[[], bytes]) -> bytes | ConfigurationError:
    """Return the secret key, or why there is none. An hour without identities needs none."""
    try:
        return key()
    except ConfigurationError as error:
        return error


def _counted(reads: Sequence[BundleRead], bundles: Sequence[Bundle], verdict: SourceVerdict) -> list[BundleRead]:
    """Return the bundles that count. Raise the first error by the order of the log."""
    counted = []
    for read, bundle in zip(reads, bundles, strict=True):
        counts = [verdict.add(part, found) for part, found in zip(bundle.parts, read.found, strict=False)]
        if read.error is not None and (all(counts)):
            raise read.error
        if all(counts):
            counted.append(read)
    verdict.close()
    return counted


def _late(session: Any, reads: Sequence[BundleRead], folder: Path) -> Path | None:
    """Write those ids of bundles that an earlier bundle has too, a folder for each bundle. Return None without any."""
    files = [shared_address(read.ids) for read in reads if read.ids is not None]
    if len(files) < 2:
        return None
    from pyspark.sql import functions

    ids = session.read.parquet(*files)
    first = ids.groupBy(HASH).agg(functions.min(BUNDLE).alias("first"), functions.max(BUNDLE).alias("last"))
    repeated = first.filter("first < last").select(HASH, "first")
    late = folder / "late"
    ids.join(repeated, HASH).filter(f"{BUNDLE} > first").select(BUNDLE, HASH).write.partitionBy(BUNDLE).parquet(
        shared_address(late)
    )
    return late if any(late.glob(f"{BUNDLE}=*")) else None
