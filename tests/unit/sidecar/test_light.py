"""What a sidecar imports, and when; and which parts of an address are public."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tests.unit.sidecar.conftest import LOCATIONS, NOW, PARTITIONS, table_as

from foreshard import sidecar
from foreshard.ports.routing_file import SavedRouting
from foreshard.routing.address import public_uri
from foreshard.stack._process import free_port
from foreshard.stores.files.routing_file import RoutingFile

HEAVY = (
    "pandas", "numpy", "scipy", "prophet", "great_expectations",
    "airflow", "pyarrow", "confluent_kafka", "rich", "starlette", "uvicorn",
)  # fmt: skip
LATER = ("pymongo", "bson", "prometheus_client", "httpx", "rich")
"""Imported only after a restarted sidecar answers, or never."""

ANSWERS_ONLY = f"""
import sys
from foreshard.cli.main import main
from foreshard.sidecar._background import Background
Background.start = lambda self: None
Background.stop = lambda self: print([name for name in {(*HEAVY, *LATER)!r} if name in sys.modules], flush=True)
main()
"""
"""The command without its background thread. At its end it prints which of the modules above it has imported."""


def test_a_sidecar_imports_nothing_heavy():
    code = f"""
import sys
from foreshard.sidecar.serve import import_follower
import_follower()
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.returncode) == ("[]", 0), run.stderr


def test_only_serve_knows_stores_and_the_others_use_ports():
    for path in (Path(sidecar.__file__).parent).glob("*.py"):
        stores = [line for line in path.read_text().splitlines() if "import" in line and "foreshard.stores" in line]
        assert not stores or path.name == "serve.py", path


def test_a_restarted_sidecar_answers_before_it_imports_the_database_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("FORESHARD_DATA_DIR", str(tmp_path))
    RoutingFile(tmp_path / "routing").save(SavedRouting("one", table_as("rows"), PARTITIONS, LOCATIONS, NOW))
    port = free_port()
    command = [sys.executable, "-c", ANSWERS_ONLY, "sidecar", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert answer(process, f"http://127.0.0.1:{port}/v1/route/plain?op=write")["partition"] == "sf-1"
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (out.strip(), process.returncode) == ("[]", 0), errors


def answer(process: subprocess.Popen[str], url: str) -> dict:
    """The answer of a server that is just starting."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310
                return json.load(response)
        except OSError:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)


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
