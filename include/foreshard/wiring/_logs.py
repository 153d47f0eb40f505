"""The stores of files and Kafka."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from foreshard.wiring._control import ControlWiring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

    from foreshard.ports.replication import ReplicationLog, ReplicationReader
    from foreshard.ports.routing_file import LiveRoutingStore, TableWriter
    from foreshard.ports.stages import (
        AccessLogSource,
        LogCounter,
        RawHourStore,
        SeriesStore,
    )
    from foreshard.stores.files.data_docs import DataDocsFolder


class LogWiring(ControlWiring):
    """The stores of files and Kafka."""

    @cached_property
    def routing_file(self) -> TableWriter:
        from foreshard.stores.files.routing_file import RoutingFile

        return RoutingFile(self.settings.data_dir / "routing")

    @cached_property
    def live_routing_file(self) -> LiveRoutingStore:
        from foreshard.stores.files.live_routing import LiveRoutingFile

        return LiveRoutingFile(self.settings.data_dir / "routing")

    @cached_property
    def access_log(self) -> AccessLogSource:
        if self.settings.observe.access_log_paths:
            from foreshard.stores.files.access_log import FileAccessLog

            return FileAccessLog(self.settings.observe.access_log_paths, self._zone)
        from foreshard.stores.kafka.access_log import KafkaAccessLog

        observe = self.settings.observe
        return KafkaAccessLog(self.settings.kafka_bootstrap, self.settings.access_topic, observe.allowed_lateness, self._zone)

    def access_log_tables(
        self, path: Path, note: Callable[[str], None] = lambda _line: None
    ) -> Iterator[pd.DataFrame | pa.Table]:
        from foreshard.stores.files.access_log import read_log

        return read_log(path, self._zone, note)

    def access_log_batches(self, path: Path) -> Iterator[pd.DataFrame]:
        from foreshard.stores.files.access_log import read_batches

        return read_batches(path, self._zone)

    @cached_property
    def raw_hours(self) -> RawHourStore:
        from foreshard.stores.files.raw_hours import ParquetHourStore

        return ParquetHourStore(self.settings.data_dir)

    @cached_property
    def data_docs(self) -> DataDocsFolder:
        from foreshard.stores.files.data_docs import DataDocsFolder

        return DataDocsFolder(self.settings.data_dir / "data_docs")

    @cached_property
    def log_files(self) -> LogCounter:
        from foreshard.stores.files.log_counter import LogFileCounter

        weights = {name: kind.weight for name, kind in self.settings.observe.request_types.items()}
        return LogFileCounter(weights, self.settings.key_type, self._zone)

    @property
    def _zone(self) -> ZoneInfo | None:
        """The zone of times in the access log that name none; None: UTC, with a note."""
        name = self.settings.observe.access_log_zone
        return ZoneInfo(name) if name else None

    @cached_property
    def series(self) -> SeriesStore:
        from foreshard.stores.files.series import ParquetSeriesStore

        return ParquetSeriesStore(self.settings.data_dir)

    def replication_log(self) -> ReplicationLog:
        from foreshard.stores.kafka.replication import KafkaReplicationLog

        return KafkaReplicationLog(self.settings.kafka_bootstrap, self.settings.replication_topic)

    def replication_reader(self) -> ReplicationReader:
        from foreshard.stores.kafka.replication import KafkaReplicationReader

        return KafkaReplicationReader(self.settings.kafka_bootstrap, self.settings.replication_topic)
