"""What an app imports with the client."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"pandas", "numpy", "scipy", "pyarrow", "confluent_kafka", "pydantic", "prophet", "starlette", "httpx"}


def test_importing_the_client_loads_pymongo_and_nothing_heavy() -> None:
    code = "import sys, foreshard.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "pymongo" in loaded
    assert loaded & HEAVY == set()
