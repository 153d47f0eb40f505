"""The page's web application, which the plugin mounts at ``/foreshard``.

Airflow does not authenticate mounted applications. Each route requires a user who may read the DAG ``rebalance``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse, HTMLResponse

from foreshard_airflow import airflow_settings
from foreshard_ui.overview import OverviewReader
from foreshard_ui.render import overview_page, trouble_page

if TYPE_CHECKING:
    from foreshard.wiring import Wiring

PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
DOCS_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline' https:; font-src 'self' https: data:; img-src 'self' https: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Data Docs are shown without scripts, because they contain text from the access log."""

REPLAY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts"
)
"""A replay's page needs its own script. The sandbox keeps it away from the user's session."""
REPLAY_FILES = ("replay.html", "replay.json", "layout.json")

app = FastAPI(
    title="Foreshard",
    dependencies=[Depends(requires_access_dag("GET", param_dag_id="rebalance"))],
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
)


@cache
def wiring() -> Wiring:
    """Return the wiring of this API server process."""
    from foreshard.wiring import Wiring

    return Wiring(airflow_settings())


@cache
def reader() -> OverviewReader:
    """Return the reader of this process."""
    return OverviewReader(wiring())


@app.get("/", response_class=HTMLResponse)
def overview() -> HTMLResponse:
    """Return the page, or a page with one line if the control database does not answer."""
    from pymongo.errors import PyMongoError

    from foreshard.errors import ForeshardError

    headers = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-store"}
    try:
        return HTMLResponse(overview_page(reader().read()), headers=headers)
    except ForeshardError as error:
        return HTMLResponse(trouble_page(str(error)), status_code=503, headers=headers)
    except PyMongoError as error:
        line = f"the control database does not answer ({type(error).__name__}); the routing sidecars keep serving without it"
        return HTMLResponse(trouble_page(line), status_code=503, headers=headers)


@app.get("/docs/{path:path}")
def data_docs(path: str) -> FileResponse:
    """Return a file of the gates' Data Docs."""
    file = inside(wiring().settings.data_dir / "data_docs", path)
    if file is None:
        raise HTTPException(404, "no such page of Data Docs")
    return FileResponse(file, headers={"Content-Security-Policy": DOCS_POLICY, "X-Content-Type-Options": "nosniff"})


@app.get("/replays/{name}/{file}")
def replay(name: str, file: str) -> FileResponse:
    """Return the page, the figures or the layout of a what-if replay."""
    found = inside(wiring().settings.data_dir / "replays", f"{name}/{file}") if file in REPLAY_FILES else None
    if found is None:
        raise HTTPException(404, "no such replay")
    return FileResponse(found, headers={"Content-Security-Policy": REPLAY_POLICY, "X-Content-Type-Options": "nosniff"})


def inside(folder: Path, path: str) -> Path | None:
    """Return the file at ``path`` below ``folder``, or None. Links and ``..`` cannot leave the folder."""
    root = folder.resolve()
    try:
        file = (root / path).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None
    except (OSError, ValueError):
        return None
