"""``foreshard sidecar``: the service that answers where a key lives."""

from __future__ import annotations

import click


@click.command()
@click.option("--host", help="Address to listen on (default: FORESHARD_SIDECAR__HOST, 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (default: FORESHARD_SIDECAR__PORT, 7788).")
@click.option("--socket", type=click.Path(), help="Unix socket to listen on as well.")
@click.option("--workers", type=click.IntRange(1, 64), help="Number of worker processes (default: 1).")
def sidecar(**options: object) -> None:
    """Answer over HTTP where keys live, until stopped."""
    import logging

    from foreshard.settings import Settings
    from foreshard.sidecar.essentials import Essentials
    from foreshard.sidecar.serve import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = Settings.load()
    given = {name: value for name, value in options.items() if value is not None}
    serve(Essentials.of(settings).with_options(given), settings)
