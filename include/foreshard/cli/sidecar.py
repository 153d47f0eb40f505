"""``foreshard sidecar``: the service that answers where a key lives."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--host", help="Address to listen on (default: FORESHARD_SIDECAR__HOST, 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (default: FORESHARD_SIDECAR__PORT, 7788).")
@click.option("--socket", type=click.Path(path_type=Path), help="Unix socket to answer at as well.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that answer (default: 1).")
def sidecar(**options: object) -> None:
    """Answer over HTTP where keys live, until stopped."""
    import logging

    from foreshard.settings import Settings
    from foreshard.sidecar.serve import serve
    from foreshard.wiring import Wiring

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = Settings.load()
    given = {name: value for name, value in options.items() if value is not None}
    settings = settings.model_copy(update={"sidecar": settings.sidecar.model_copy(update=given)})
    with Wiring(settings) as wiring:
        serve(wiring)
