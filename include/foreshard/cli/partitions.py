"""``foreshard partitions``: register, list and drain partitions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foreshard.cli.keys import NO_INDEX, make_indexes

if TYPE_CHECKING:
    from foreshard.model import Location, Partition, PartitionState


@click.group()
def partitions() -> None:
    """Register, list and drain partitions."""


@partitions.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@NO_INDEX
def apply(file: Path, no_index: bool) -> None:
    """Register the partitions and locations of FILE (TOML). All of them are registered, or none.

    Once there is a routing table, the sharded collections of these partitions also get their hashed index.

    \b
    [[location]]
    name = "San Francisco"
    latitude = 37.789
    longitude = -122.401

    \b
    [[partition]]
    id = "sf-1"
    location = "San Francisco"
    capacity = 250.0            # cost units per second
    uri = "mongodb://host:27017/?replicaSet=sf-1"
    state = "active"            # or "draining"; optional; default: unchanged
    """
    from foreshard.wiring import Wiring

    described = read_description(file)
    with Wiring() as wiring:
        wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
        wiring.registry.register(described.partitions, described.locations)
        for partition_id, state in described.states.items():
            wiring.registry.set_state(partition_id, state)
        if not no_index and wiring.routing.version():
            make_indexes(wiring, [partition.partition_id for partition in described.partitions])
    click.echo(f"{len(described.partitions)} partitions and {len(described.locations)} locations registered")


@partitions.command("list")
def list_() -> None:
    """List the registered partitions (addresses without credentials)."""
    from rich.console import Console
    from rich.table import Table

    from foreshard.routing.address import public_uri
    from foreshard.wiring import Wiring

    table = Table("partition", "location", "state")
    for name in ("capacity (cost/s)", "load now", "load predicted"):
        table.add_column(name, justify="right")
    table.add_column("address")
    with Wiring() as wiring:
        wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
        for p in wiring.registry.partitions():
            figures = (f"{value:.3f}" for value in (p.capacity, p.current_load, p.predicted_load))
            table.add_row(p.partition_id, p.geographic_location, p.state.value, *figures, public_uri(p.uri))
    Console().print(table)


@partitions.command()
@click.argument("partition_id")
@click.option("--undo", is_flag=True, help="Make it active again.")
def drain(partition_id: str, undo: bool) -> None:
    """Drain a partition: plans move its keys away and put no key on it."""
    from foreshard.model import PartitionState
    from foreshard.wiring import Wiring

    state = PartitionState.ACTIVE if undo else PartitionState.DRAINING
    with Wiring() as wiring:
        wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
        wiring.registry.set_state(partition_id, state)
    click.echo(f"{partition_id} is {state.value}")


@partitions.command()
@click.option("--from", "origin", required=True, help="Registered location of this machine.")
def measure(origin: str) -> None:
    """Measure the round trips from this machine to every partition. Plans and routing use them as distances.

    Run it in each location that accesses come from, and repeat it from time to time.
    """
    from datetime import UTC, datetime

    from foreshard.stores.partition.round_trips import measure_round_trips
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
        found = measure_round_trips(wiring.registry.partitions(), wiring.mongo.partition)
        wiring.registry.save_round_trips(origin, found, datetime.now(UTC))
    for place, milliseconds in sorted(found.items()):
        click.echo(f"{origin} to {place}: {milliseconds:.2f} ms")


@dataclass(frozen=True, slots=True)
class Description:
    """The content of a file. ``states`` has the partitions that it gives a state."""

    partitions: tuple[Partition, ...]
    locations: tuple[Location, ...]
    states: dict[str, PartitionState]


def read_description(file: Path) -> Description:
    """Read a TOML file. Raise :class:`ConfigurationError` with the first invalid entry."""
    import tomllib

    from foreshard.errors import ConfigurationError
    from foreshard.model import Location, Partition, PartitionState
    from foreshard.routing.address import has_credentials

    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(str(file), f"can't be read as TOML ({error})", "correct the file") from None
    unknown = sorted(set(document) - {"location", "partition"})
    if unknown:
        raise ConfigurationError(str(file), f"unknown table {unknown[0]!r}", "use [[location]] and [[partition]]")
    locations = [
        Location(**_Entry(file, "location", number, row).read(name=str, latitude=float, longitude=float))
        for number, row in enumerate(_rows(file, document, "location"), 1)
    ]
    found, states = [], {}
    for number, row in enumerate(_rows(file, document, "partition"), 1):
        entry = _Entry(file, "partition", number, row)
        fields = entry.read(id=str, location=str, capacity=float, uri=str, state=(str, None))
        if has_credentials(fields["uri"]):
            problem = f"the uri of {fields['id']} has credentials, which the registry would store as they are"
            raise entry.wrong(problem, "remove them; FORESHARD_MONGO_USERNAME and FORESHARD_MONGO_PASSWORD name the user")
        found.append(Partition(fields["id"], fields["location"], fields["capacity"], fields["uri"]))
        if fields["state"] is not None:
            if fields["state"] not in set(PartitionState):
                raise entry.wrong(f"state {fields['state']!r} is unknown", f"use {' or '.join(PartitionState)}")
            states[fields["id"]] = PartitionState(fields["state"])
    return Description(tuple(found), tuple(locations), states)


def _rows(file: Path, document: dict[str, Any], name: str) -> list[Any]:
    from foreshard.errors import ConfigurationError

    rows = document.get(name, [])
    if not isinstance(rows, list):
        raise ConfigurationError(str(file), f"{name} is not a list of tables", f"write [[{name}]] with two brackets")
    return rows


@dataclass(frozen=True, slots=True)
class _Entry:
    """One table of the file."""

    file: Path
    kind: str
    number: int
    row: Any

    def read(self, **kinds: Any) -> dict[str, Any]:
        """Return the fields with the given types. A field with ``(type, default)`` is optional."""
        if not isinstance(self.row, dict):
            raise self.wrong("is not a table", f"write [[{self.kind}]]")
        unknown = sorted(set(self.row) - set(kinds))
        if unknown:
            raise self.wrong(f"unknown field {unknown[0]!r}", f"known: {', '.join(kinds)}")
        return {name: self._field(name, kind) for name, kind in kinds.items()}

    def _field(self, name: str, kind: Any) -> Any:
        wanted, optional = (kind[0], True) if isinstance(kind, tuple) else (kind, False)
        if name not in self.row:
            if optional:
                return kind[1]
            raise self.wrong(f"{name} is missing", "add it")
        value = self.row[name]
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, wanted) or value == "":
            raise self.wrong(f"{name} is {value!r}", f"make it a {'number' if wanted is float else 'string'}")
        return value

    def wrong(self, problem: str, remedy: str) -> Exception:
        """Return the error for this entry."""
        from foreshard.errors import ConfigurationError

        return ConfigurationError(f"{self.file}, {self.kind} {self.number}", problem, remedy)
