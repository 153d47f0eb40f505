"""What a sidecar imports, and what addresses show."""

from __future__ import annotations

import subprocess
import sys

import pytest

from foreshard.routing.address import public_uri

HEAVY = (
    "pandas", "numpy", "scipy", "prophet", "great_expectations",
    "airflow", "pyarrow", "confluent_kafka", "rich", "starlette", "uvicorn",
)  # fmt: skip


@pytest.mark.parametrize("module", ["foreshard.sidecar.serve", "foreshard.cli.sidecar"])
def test_starting_the_sidecar_imports_nothing_heavy(module):
    code = f"""
import sys
import {module}
from foreshard.settings import Settings
from foreshard.wiring import Wiring
from foreshard.sidecar.serve import Worker
Worker.build(Wiring(Settings()), "test")
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.returncode) == ("[]", 0), run.stderr


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("mongodb://h:1/?directConnection=true", "mongodb://h:1/?directConnection=true"),
        ("mongodb://u:p%40@h:1,i:2/db?replicaSet=r", "mongodb://h:1,i:2/db?replicaSet=r"),
        ("mongodb+srv://u:p@h", "mongodb+srv://h"),
        ("mongodb://u:p@h:1?tls=true", "mongodb://h:1?tls=true"),
        (
            "mongodb://h/?appName=a%20b&readPreferenceTags=dc:ny,rack:1",
            "mongodb://h/?appName=a%20b&readPreferenceTags=dc:ny,rack:1",
        ),
        ("mongodb://h/?tlsCertificateKeyFilePassword=s&tls=true", "mongodb://h/?tls=true"),
        ("mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:s", "mongodb://h/"),
        ("", ""),
        ("u:p@h:1", "h:1"),
    ],
)
def test_an_address_shows_no_secrets(uri, shown):
    assert public_uri(uri) == shown
