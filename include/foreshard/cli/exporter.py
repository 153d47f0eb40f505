"""``foreshard exporter``: Prometheus metrics of partitions, moves, shadows, gates and the routing table."""

from __future__ import annotations

import click


@click.command()
@click.option("--host", help="Address to listen on (default: FORESHARD_SIDECAR__HOST, 127.0.0.1).")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on (default: FORESHARD_SIDECAR__METRICS_PORT, 7789)."
)
def exporter(host: str | None, port: int | None) -> None:
    """Serve /metrics for Prometheus until stopped. Each scrape reads the control database."""
    import logging
    import signal
    import threading

    from foreshard.settings import Settings
    from foreshard.stores.control.monitoring import ControlReader
    from foreshard.stores.prometheus_exporter import start_exporter
    from foreshard.wiring import Wiring

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = Settings.load()
    given = {name: value for name, value in (("host", host), ("metrics_port", port)) if value is not None}
    settings = settings.model_copy(update={"sidecar": settings.sidecar.model_copy(update=given)})
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with Wiring(settings) as wiring:
        server, thread = start_exporter(ControlReader(wiring.mongo.control_database, settings), settings)
        logging.getLogger(__name__).info("exporter on http://%s:%d/metrics", settings.sidecar.host, server.server_port)
        stopped.wait()
        server.shutdown()
        server.server_close()
        thread.join()
