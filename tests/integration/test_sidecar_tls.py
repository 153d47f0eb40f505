"""The sidecar with a certificate: clients that check it, clients that don't accept it, and its renewal."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import time

import httpx
import pytest
from click.testing import CliRunner
from tests.integration.certificates import make_certificate
from tests.integration.test_sidecar_process import environment, published, running

from foreshard.cli.group import cli
from foreshard.client.routing.routes import Operation, ReadPreference
from foreshard.client.routing.sidecar_routes import SidecarRoutes
from foreshard.errors import ConfigurationError, Unreachable

__all__ = ["environment", "published"]

ANYWHERE = ReadPreference()


@pytest.fixture
def secure(environment, published, work_folder) -> dict[str, str]:
    certificate, key = make_certificate(work_folder, "sidecar")
    return environment | {
        "FORESHARD_SIDECAR__TLS_CERTIFICATE": str(certificate),
        "FORESHARD_SIDECAR__TLS_KEY": str(key),
        "FORESHARD_SIDECAR__TLS_AUTHORITY": str(certificate),
        "FORESHARD_SIDECAR__TOKEN": "t0ken-of-16-signs",
    }


def checking(environment: dict[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=environment["FORESHARD_SIDECAR__TLS_AUTHORITY"])


def test_clients_that_check_the_certificate_are_answered(secure, work_folder):
    token = secure["FORESHARD_SIDECAR__TOKEN"]
    authority = work_folder / "sidecar.pem"
    with running(secure, "--workers", "2", verify=checking(secure)) as http:
        url = str(http.base_url)
        headers = {"Authorization": f"Bearer {token}"}
        assert http.get("/v1/route/hot?op=write", headers=headers).json()["partition"] == "alpha"
        keys = [f"key-{number}" for number in range(5_000)]
        many = http.post("/v1/routes", json={"keys": keys}, headers=headers).json()["routes"]
        assert [one["key"] for one in many] == keys
        routes = SidecarRoutes(url, token=token, authority=authority)
        assert routes.route("hot", Operation.WRITE, ANYWHERE).partition == "alpha"
        assert routes.refresh() == 1
        ask = ["route", "hot", "--op", "write", "--json", "--url", url]
        assert json.loads(CliRunner().invoke(cli, ask, env=secure).output)["partition"] == "alpha"
        routes.close()


def test_a_certificate_that_is_not_accepted_and_plain_requests_are_refused_in_one_line(secure, work_folder):
    foreign, _ = make_certificate(work_folder, "foreign")
    with running(secure, verify=checking(secure)) as http:
        url = str(http.base_url)
        for authority in (foreign, None):
            with pytest.raises(ConfigurationError, match="is not accepted") as refused:
                SidecarRoutes(url, authority=authority).route("hot", Operation.WRITE, ANYWHERE)
            assert "FORESHARD_SIDECAR__TLS_AUTHORITY" in str(refused.value)
            assert "\n" not in str(refused.value)
        with pytest.raises(Unreachable):
            SidecarRoutes(url.replace("https", "http")).route("hot", Operation.WRITE, ANYWHERE)
        with socket.create_connection((http.base_url.host, http.base_url.port)) as mute:  # it never shakes hands
            assert http.get("/healthz").status_code == 200
            mute.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP" not in mute.recv(4096)


def test_a_renewed_certificate_is_read_on_sighup(secure, work_folder, monkeypatch):
    started = []
    whole = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **named: started.append(whole(*given, **named)) or started[-1])
    with running(secure, verify=checking(secure)) as http:
        newer = make_certificate(work_folder, "newer")
        for file, name in zip(newer, ("sidecar.pem", "sidecar.key"), strict=True):
            shutil.copy(file, work_folder / name)
        started[0].send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 15
        while True:
            with httpx.Client(base_url=http.base_url, verify=ssl.create_default_context(cafile=newer[0])) as again:
                try:
                    assert again.get("/healthz").status_code == 200
                    break
                except httpx.ConnectError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)


@pytest.mark.parametrize("fault", ["missing", "no certificate", "another's key", "no file named"])
def test_a_certificate_that_can_not_be_used_is_reported_in_one_line(secure, work_folder, fault):
    changed = dict(secure)
    if fault == "missing":
        (work_folder / "sidecar.pem").unlink()
    elif fault == "no certificate":
        (work_folder / "sidecar.pem").write_text("nonsense")
    elif fault == "another's key":
        changed["FORESHARD_SIDECAR__TLS_KEY"] = str(make_certificate(work_folder, "other")[1])
    else:
        del changed["FORESHARD_SIDECAR__TLS_CERTIFICATE"]
    refused = CliRunner().invoke(cli, ["sidecar", "--port", "0"], env=changed)
    assert isinstance(refused.exception, ConfigurationError)
    assert "FORESHARD_SIDECAR__TLS_CERTIFICATE" in str(refused.exception)
    assert "\n" not in str(refused.exception)
