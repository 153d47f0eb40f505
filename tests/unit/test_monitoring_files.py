"""Prometheus' rules and Grafana's dashboard are valid (promtool), tested (promtool), and use figures that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.sidecar_config import CONFIG
from tests.slots import slot_map

from foreshard.sidecar._figures import ROUTE
from foreshard.sidecar._metrics import SidecarMetrics
from foreshard.sidecar._service import RouteService
from foreshard.stores.prometheus_exporter import family
from foreshard.watch.figures import figures
from foreshard.watch.state import (
    AccuracyStatus,
    ControlState,
    ForecastStatus,
    GateStatus,
    Limits,
    LoopStatus,
    MoveStatus,
    PartitionStatus,
    PlanStatus,
    ShadowStatus,
    TableStatus,
    TaskOutcome,
)

MONITORING = Path(__file__).parents[2] / "monitoring"
NOW = datetime(2024, 3, 1, 8, tzinfo=UTC)
METRIC = re.compile(r"\b(?:foreshard_\w+|up)\b")
EXPORTERS_OWN = {"foreshard_exporter_up", "foreshard_exporter_read_seconds"}
PROMETHEUS_OWN = {"up"}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.fail("promtool is not installed (Debian's prometheus package); `make system` installs it", pytrace=False)
    return subprocess.run((tool, *arguments), capture_output=True, text=True, check=False, cwd=MONITORING)


@cache
def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@cache
def board() -> dict[str, Any]:
    return dict(json.loads((MONITORING / "grafana" / "dashboards" / "foreshard.json").read_text()))


def targets() -> list[tuple[str, str]]:
    """(panel, expression) of the whole dashboard."""
    found = [(panel["title"], target["expr"]) for panel in board()["panels"] for target in panel.get("targets", ())]
    return [*found, *(("annotation", note["expr"]) for note in board()["annotations"]["list"])]


def full_state() -> ControlState:
    """A control database in which everything has a value."""
    return ControlState(
        Limits(0.8, timedelta(seconds=10), timedelta(minutes=15)),
        partitions=(PartitionStatus("alpha", "Here", 10.0, 5.0, 6.0, False, 0.6, 3, True, NOW),),
        moves=MoveStatus({"planned": 1}, NOW, NOW, NOW, (0.01, 0.02)),
        shadows=ShadowStatus({"live": 1}, {"alpha": NOW}, 1),
        gates=(GateStatus("plan", NOW, True, 0, NOW),),
        table=TableStatus(3, NOW, 10, 1, 0),
        forecast=ForecastStatus({"prophet": 3, "recent_mean": 1}, frozenset({"recent_mean"})),
        accuracy=AccuracyStatus(NOW, {"all": {"wape": 0.2, "pinball": 0.1, "coverage": 0.9, "bias": 0.0}}),
        plan=PlanStatus(1, 1, 0, 0),
        loop=LoopStatus({"tally": NOW}, 10, 3),
        open_conflicts=0,
        outcomes=(TaskOutcome("rebalance", "plan", "failed", 1, 2.0),),
    )


def samples_of(families: list[Metric]) -> dict[str, set[str]]:
    """Sample name → its labels, including the series of counters and histograms as Prometheus stores them."""
    found: dict[str, set[str]] = {}
    for one in families:
        names = {sample.name: set(sample.labels) for sample in one.samples}
        if not names:
            names = {f"{one.name}_total" if one.type == "counter" else one.name: set()}
        for name, labels in names.items():
            found.setdefault(name, set()).update(labels)
    return found


@cache
def exported() -> dict[str, set[str]]:
    return samples_of([family(figure) for figure in figures(full_state(), NOW)]) | {name: set() for name in EXPORTERS_OWN}


@cache
def served_by_sidecar() -> dict[str, set[str]]:
    """The figures of a sidecar that has answered, refused and refreshed once and knows one partition."""
    from foreshard.model import Location, Partition, PartitionLoad, RoutingTable

    service = RouteService(CONFIG, clock=lambda: NOW.timestamp())
    service.install_registry([Partition("alpha", "Here", 10.0, "mongodb://alpha")], [Location("Here", 0, 0)])
    service.install_table(RoutingTable(1, {}, slot_map(("alpha",), (1.0,)), NOW), "t", "file", NOW.timestamp())
    service.install_loads([PartitionLoad("alpha", 1.0, True, NOW)])
    metrics = SidecarMetrics(service)
    counted = metrics.figures
    counted.routed("read", "primary", "only_copy")
    counted.times[ROUTE].took(0.001)
    counted.refused(400, "empty-key")
    counted.refreshes["done"] += 1
    found = samples_of(list(text_string_to_metric_families(metrics.text().decode())))
    return {name: labels | {"instance"} for name, labels in found.items()}


def complain(problems: list[str]) -> None:
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def test_prometheus_accepts_its_configuration_and_the_rules() -> None:
    done = promtool("check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(alerts())} rules found" in done.stdout


def test_every_alert_fires_when_it_should_and_not_before() -> None:
    done = promtool("test", "rules", "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested() -> None:
    cases = yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
    tested = {case["alertname"] for test in cases for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}
    assert tested == {rule["alert"] for rule in alerts()}


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    complain(
        [
            f"{rule['alert']}: severity page or ticket, summary and action"
            for rule in alerts()
            if rule["labels"].get("severity") not in {"page", "ticket"} or set(rule["annotations"]) != {"summary", "action"}
        ]
    )


def test_alerts_and_dashboard_ask_only_for_figures_that_exist() -> None:
    known = set(exported()) | set(served_by_sidecar()) | PROMETHEUS_OWN
    asked = [(rule["alert"], rule["expr"]) for rule in alerts()] + targets()
    complain([f"{where}: {name}" for where, expr in asked for name in METRIC.findall(expr) if name not in known])


def test_labels_that_are_asked_for_exist_on_their_figures() -> None:
    known = {**exported(), **served_by_sidecar()}
    selector = re.compile(r"(foreshard_\w+)\{([^}]*)\}")
    asked = [(rule["alert"], rule["expr"]) for rule in alerts()] + targets()
    complain(
        [
            f"{where}: {name} has no label {label}"
            for where, expr in asked
            for name, matchers in selector.findall(expr)
            for label in re.findall(r"(\w+)\s*[=!]", matchers)
            if label not in known[name]
        ]
    )


def test_no_figure_has_a_label_that_grows_with_keys_or_users() -> None:
    allowed = {"partition", "location", "state", "gate", "model", "stage", "dag", "task"}
    assert {label for labels in exported().values() for label in labels} <= allowed


def test_counters_end_as_prometheus_wants_them_to() -> None:
    assert {name for name in exported() if name.endswith("_total")} == {
        "foreshard_task_outcomes_total",
        "foreshard_task_seconds_total",
    }


def test_every_expression_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, (_, expr) in enumerate(targets())
    ]
    file = tmp_path / "dashboard_rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_laid_out_without_overlaps_and_every_panel_has_a_title() -> None:
    taken: dict[tuple[int, int], str] = {}
    ids = [panel["id"] for panel in board()["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board()["panels"]:
        assert panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} covers {taken.get((x, y))}"
                taken[x, y] = panel["title"]


def test_grafana_is_given_its_datasource_and_its_dashboard() -> None:
    (source,) = yaml.safe_load((MONITORING / "grafana" / "datasources" / "prometheus.yml").read_text())["datasources"]
    used = set(re.findall(r'"uid": "([^"]+)"', json.dumps(board()["panels"])))
    assert used == {source["uid"]}
    (provider,) = yaml.safe_load((MONITORING / "grafana" / "dashboards" / "foreshard.yml").read_text())["providers"]
    assert provider["options"]["path"].endswith("/dashboards")


def test_the_team_deployment_mounts_these_files_and_asks_these_addresses() -> None:
    compose = yaml.safe_load((MONITORING.parent / "docker-compose.yaml").read_text())
    mounts = [
        v.split(":") for name in ("prometheus", "grafana") for v in compose["services"][name]["volumes"] if v.startswith(".")
    ]
    for source, *_ in mounts:
        assert (MONITORING.parent / source).exists(), source
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    addresses = {t for job in config["scrape_configs"] for static in job["static_configs"] for t in static["targets"]}
    for address in addresses:
        service, port = address.split(":")
        assert any(published.endswith(f":{port}") for published in compose["services"][service]["ports"])


def test_a_command_that_an_alert_names_exists() -> None:
    import importlib

    import click

    from foreshard.cli.group import COMMANDS

    problems = []
    for rule in alerts():
        for words in re.findall(r"\(?foreshard ((?:[a-z]+ ?){1,2})", rule["annotations"]["action"]):
            first, *rest = words.split()
            if first not in COMMANDS:
                problems.append(f"{rule['alert']}: foreshard {first}")
                continue
            module, name = COMMANDS[first].split(":")
            command = getattr(importlib.import_module(module), name)
            if rest and isinstance(command, click.Group) and rest[0] not in command.commands:
                problems.append(f"{rule['alert']}: foreshard {words}")
    complain(problems)
