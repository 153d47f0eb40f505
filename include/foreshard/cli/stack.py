"""``foreshard stack``: the embedded stack on this machine."""

from __future__ import annotations

import click


@click.group()
def stack() -> None:
    """Fetch, start, show and stop the embedded stack."""


@stack.command()
def fetch() -> None:
    """Fetch Kafka's jars, so that starting the stack needs no network."""
    from foreshard.stack.kafka import fetch_jars
    from foreshard.stack.mongod import mongod_binary

    mongod_binary()
    fetch_jars()
