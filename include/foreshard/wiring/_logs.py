"""The stores of files and Kafka."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from foreshard.errors import ConfigurationError
from foreshard.settings import ObserveEngine
from foreshard.wiring._control import ControlWiring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import pandas as pd
    import pyarrow as pa

    from foreshard.ports.access_logs import AccessLogSource, FieldSample, LogCounter, LogPlace, RawHourStore
    from foreshard.ports.replication import ReplicationLog, ReplicationReader
    from foreshard.ports.routing_file import LiveRoutingStore, TableWriter
    from foreshard.ports.stages import SeriesStore
    from foreshard.settings import SourceMapping
    from foreshard.stores.engines.polars_engine import PolarsEngine
    from foreshard.stores.engines.spark_engine import SparkEngine
    from foreshard.stores.engines.spark_reading import SparkReader
    from foreshard.stores.files.data_docs import DataDocsFolder
    from foreshard.stores.files.log_tables import SourceForm


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
        if places := self.settings.observe.access_log_paths:
            return self._log_at([str(place) for place in places])
        from foreshard.stores.kafka.access_log import KafkaAccessLog

        lateness = self.settings.observe.allowed_lateness
        return KafkaAccessLog(self.settings.kafka_bootstrap, self.settings.access_topic, lateness, self.access_log_form)

    def _log_at(self, places: Sequence[str]) -> AccessLogSource:
        from foreshard.stores.files.access_log import FileAccessLog
        from foreshard.stores.files.object_logs import ObjectAccessLog, is_address
        from foreshard.stores.profiler_log import SCHEMES, ProfilerAccessLog

        profiled = [place for place in places if place.startswith(SCHEMES)]
        if len(profiled) == len(places):
            return ProfilerAccessLog(profiled, self.access_log_form.mapping, self.mongo)
        if profiled:
            raise ConfigurationError("access_log_paths", "it names profilers and files", "give one or the other")
        if any(map(is_address, places)):
            return ObjectAccessLog(places, self.access_log_form)
        return FileAccessLog([Path(place) for place in places], self.access_log_form)

    def access_log_tables(
        self, place: LogPlace, note: Callable[[str], None] = lambda _line: None
    ) -> Iterator[pd.DataFrame | pa.Table]:
        return self.mapped_log(place, self.access_log_form.mapping, note)

    def log_sample(self, place: LogPlace) -> FieldSample:
        from foreshard.stores.files.log_fields import sampled_fields
        from foreshard.stores.files.object_logs import object_sample
        from foreshard.stores.profiler_log import SCHEMES, profiled_database, profiled_sample

        if isinstance(place, Path):
            return sampled_fields(place)
        if place.startswith(SCHEMES):
            return profiled_sample(profiled_database(place, self.mongo))
        return object_sample(place)

    def mapped_log(
        self, place: LogPlace, mapping: SourceMapping | None, note: Callable[[str], None]
    ) -> Iterator[pd.DataFrame | pa.Table]:
        from foreshard.stores.files.access_log import read_log
        from foreshard.stores.files.log_tables import SourceForm
        from foreshard.stores.files.object_logs import object_tables
        from foreshard.stores.profiler_log import SCHEMES, profiled_database, profiled_tables

        form = SourceForm(self.access_log_form.zone, mapping)
        if isinstance(place, Path):
            return read_log(place, form, note)
        if place.startswith(SCHEMES):
            return profiled_tables(profiled_database(place, self.mongo), mapping, note)
        return object_tables(place, form, note)

    def access_log_batches(self, path: Path) -> Iterator[pd.DataFrame]:
        from foreshard.stores.files.access_log import read_batches

        return read_batches(path, self.access_log_form)

    @cached_property
    def raw_hours(self) -> RawHourStore:
        from foreshard.stores.files.raw_hours import ParquetHourStore

        return ParquetHourStore(self.settings.data_dir)

    def engine(self) -> AbstractContextManager[PolarsEngine | SparkEngine]:
        observe = self.settings.observe
        if observe.engine is ObserveEngine.SPARK:
            from foreshard.stores.engines.spark_engine import SparkEngine

            return SparkEngine(observe.spark_master, observe.spark_options)
        from foreshard.stores.engines.polars_engine import PolarsEngine

        return PolarsEngine(self.settings.data_dir / "raw")

    @property
    def hour_reader(self) -> SparkReader | None:
        from foreshard.stores.files.access_log import FileAccessLog
        from foreshard.stores.files.object_logs import ObjectAccessLog

        observe, source = self.settings.observe, self.access_log
        if observe.engine is not ObserveEngine.SPARK or not isinstance(source, FileAccessLog | ObjectAccessLog):
            return None
        from foreshard.stores.engines.spark_reading import SparkReader

        return SparkReader(source, observe.spark_master, observe.spark_options)

    @cached_property
    def data_docs(self) -> DataDocsFolder:
        from foreshard.stores.files.data_docs import DataDocsFolder

        return DataDocsFolder(self.settings.data_dir / "data_docs")

    @cached_property
    def log_files(self) -> LogCounter:
        from foreshard.stores.files.log_counter import LogFileCounter

        weights = {name: kind.weight for name, kind in self.settings.observe.request_types.items()}
        return LogFileCounter(weights, self.settings.key_type, self.access_log_form)

    @cached_property
    def access_log_form(self) -> SourceForm:
        """The zone of times that name none, and the mapping of a log without the standard columns."""
        from foreshard.stores.files.log_tables import SourceForm
        from foreshard.stores.files.mapping_file import read_mapping

        observe = self.settings.observe
        zone = ZoneInfo(observe.access_log_zone) if observe.access_log_zone else None
        return SourceForm(zone, read_mapping(observe.access_log_mapping) if observe.access_log_mapping else None)

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
