"""``make fuzz``: schemathesis sends a running sidecar requests that its OpenAPI document allows, and others.

The exit code says whether an answer violated the document, whether a request failed, or whether the sidecar died.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT))

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "unsupported_method", "negative_data_rejection",
)  # fmt: skip
REFRESH = "/v1/refresh"
"""Without a control database it answers 503, as documented; that is not a failure of the sidecar."""


CONFIGURATION = """
[checks.negative_data_rejection]
expected-statuses = ["4xx", 503]
"""


def main() -> int:
    """Start a sidecar with a saved table and no database, and run schemathesis against it."""
    from tests.benchmarks.sidecar_servers import save, sidecar

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="per operation and phase")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), 1_000)
        with sidecar(Path(folder), core=None) as server:
            url = f"http://127.0.0.1:{server.port}"
            (Path(folder) / "schemathesis.toml").write_text(CONFIGURATION)
            command = [Path(sys.executable).parent / "schemathesis", "run", f"{url}/openapi.json", "--no-color"]
            options = [f"--checks={','.join(CHECKS)}", f"--max-examples={given.examples}", f"--exclude-path={REFRESH}"]
            begun = time.monotonic()
            run = subprocess.run([*command, *options], cwd=folder, env=os.environ | {"COLUMNS": "120"}, check=False)
            alive = httpx.get(f"{url}/readyz").status_code == 200
            failures = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if 'code="internal"' in line]
    state = "answers" if alive else "is gone"
    print(f"schemathesis: {time.monotonic() - begun:.0f} s, exit code {run.returncode}; the sidecar {state}")
    return int(bool(run.returncode or failures or not alive))


if __name__ == "__main__":
    sys.exit(main())
