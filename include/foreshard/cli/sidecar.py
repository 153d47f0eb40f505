"""``foreshard sidecar``: the service that answers where a key lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.option("--host", help="Address to listen on (default: FORESHARD_SIDECAR__HOST, 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (default: FORESHARD_SIDECAR__PORT, 7788).")
@click.option("--socket", type=click.Path(path_type=Path), help="Unix socket to listen on as well.")
@click.option("--workers", type=click.IntRange(1, 64), help="Number of worker processes (default: 1).")
def sidecar(**options: Any) -> None:
    """Answer over HTTP where keys live, until stopped."""
    import gc
    import logging
    from dataclasses import replace

    gc.disable()  # imported modules never become garbage; the follower enables it again
    from foreshard.routing.config import SidecarConfig
    from foreshard.sidecar.serve import serve
    from foreshard.wiring import Wiring

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    wiring = Wiring()
    given = {name: value for name, value in options.items() if value is not None}
    serve(replace(SidecarConfig.from_settings(wiring.settings), **given), wiring)
