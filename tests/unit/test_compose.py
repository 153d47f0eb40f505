"""The team deployment, checked without Docker: docker-compose accepts it, and it keeps the rules."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
COMPOSE = PROJECT / "docker-compose.yaml"
SECRET_NAME = re.compile(r"PASSWORD|SECRET|_KEY$|FERNET|TOKEN|CONN$|BACKEND$|BROKER_URL$")
VARIABLE = re.compile(r"\$\{(\w+)(:\?[^}]*)?\}")


def named_secrets() -> list[str]:
    lines = (PROJECT / "deploy" / "example.env").read_text().splitlines()
    return [line.partition("=")[0] for line in lines if line and not line.startswith("#")]


def docker_compose(*arguments: str, without: str | None = None) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("docker-compose")
    if tool is None:
        pytest.fail("docker-compose is not installed; `make system` installs it", pytrace=False)
    secrets = {name: f"dummy-{name.lower()}" for name in named_secrets() if name != without}
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **secrets}
    with tempfile.NamedTemporaryFile(suffix=".env") as no_env_file:
        command = (tool, "--env-file", no_env_file.name, "--file", str(COMPOSE), *arguments)
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=PROJECT, check=False)


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    """The file as docker-compose understands it, with dummy secrets."""
    done = docker_compose("config")
    assert done.returncode == 0, done.stderr
    return dict(yaml.safe_load(done.stdout))


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """The file as written, with merged anchors and unresolved variables."""
    return dict(yaml.safe_load(COMPOSE.read_text()))


def test_docker_compose_accepts_the_file_and_it_has_every_service(resolved: dict[str, Any]) -> None:
    airflow = {f"airflow-{part}" for part in ("apiserver", "scheduler", "dag-processor", "triggerer", "worker", "init")}
    mongo = {"control", *(f"partition-{n}" for n in range(1, 5))}
    own = {"sidecar", "applier", "load-reporter", "exporter"}
    assert set(resolved["services"]) >= airflow | mongo | own | {"kafka", "postgres", "redis", "prometheus", "grafana"}


@pytest.mark.parametrize("name", named_secrets())
def test_a_missing_secret_stops_it_with_its_name(name: str) -> None:
    done = docker_compose("config", "--quiet", without=name)
    assert done.returncode != 0
    assert name in done.stderr


def test_every_variable_is_required_and_listed_in_the_example() -> None:
    text = "\n".join(line for line in COMPOSE.read_text().splitlines() if not line.lstrip().startswith("#"))
    found = VARIABLE.findall(text.replace("$${", "{"))
    assert {name for name, demand in found if not demand} == set()
    assert {name for name, _ in found} == set(named_secrets())


def test_the_example_holds_no_values() -> None:
    lines = (PROJECT / "deploy" / "example.env").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#") and not line.endswith("=")] == []


def test_every_published_port_is_on_loopback_and_published_once(resolved: dict[str, Any]) -> None:
    ports = [str(port) for service in resolved["services"].values() for port in service.get("ports", ())]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    hosts = [port.split(":")[1] for port in ports]
    assert len(hosts) == len(set(hosts))


def test_no_secret_is_written_down(written: dict[str, Any]) -> None:
    literal = [
        f"{name}.{variable}"
        for name, service in written["services"].items()
        for variable, value in service.get("environment", {}).items()
        if SECRET_NAME.search(variable) and not VARIABLE.search(str(value))
    ]
    assert literal == []


def test_every_image_is_pinned_to_a_version(resolved: dict[str, Any]) -> None:
    images = {service["image"] for service in resolved["services"].values()}
    dockerfile = (PROJECT / "Dockerfile").read_text()
    images |= set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE))
    assert [image for image in images if not re.search(r":(slim-)?v?\d+\.\d+(\.\d+)?(-\S+)?$", image)] == []


def test_every_service_that_stays_is_watched_and_restarted(resolved: dict[str, Any]) -> None:
    once = {"airflow-init", "kafka-topics"}
    without_port = {"applier", "load-reporter"}
    staying = {name: s for name, s in resolved["services"].items() if name not in once}
    assert [name for name, s in staying.items() if s.get("restart") != "unless-stopped"] == []
    assert [name for name, s in staying.items() if "healthcheck" not in s and name not in without_port] == []


def test_data_is_in_named_volumes_that_exist(resolved: dict[str, Any]) -> None:
    used = {str(v).split(":")[0] for s in resolved["services"].values() for v in s.get("volumes", ())}
    named = {name for name in used if not name.startswith("/")}
    assert named == set(resolved["volumes"])


def test_every_mounted_file_of_the_project_exists(written: dict[str, Any]) -> None:
    mounts = {str(v).split(":")[0] for s in written["services"].values() for v in s.get("volumes", ())}
    missing = [mount for mount in mounts if mount.startswith("./") and not (PROJECT / mount).exists()]
    assert missing == []


def test_foreshards_own_processes_run_commands_that_exist(written: dict[str, Any]) -> None:
    from foreshard.cli.group import cli

    own = {name: s["command"] for name, s in written["services"].items() if s.get("entrypoint") == ["foreshard"]}
    assert set(own) == {"sidecar", "applier", "load-reporter", "exporter"}
    for command in own.values():
        group: Any = cli
        for word in command:
            group = group.get_command(None, word)
            assert group is not None, command


def test_the_image_is_built_from_the_locked_versions_that_were_tested() -> None:
    tested, deployed = (pins(PROJECT / path) for path in ("requirements.lock", "deploy/requirements.lock"))
    assert {name: (version, tested[name]) for name, version in deployed.items() if tested.get(name, version) != version} == {}
    assert (
        deployed["apache-airflow"] == re.search(r"FROM apache/airflow:slim-([\d.]+)", (PROJECT / "Dockerfile").read_text())[1]
    )


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", path.read_text(), re.MULTILINE))
