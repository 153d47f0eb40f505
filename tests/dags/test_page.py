"""The Foreshard page: its content, its access control, and the files that it must not serve."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute
from pymongo import MongoClient
from tests.slots import slot_map

from foreshard.model import (
    GateResult,
    Location,
    Move,
    Partition,
    PartitionLoad,
    PartitionScore,
    Placement,
    Plan,
    PlannedShadow,
    PlanWarning,
    Reason,
    Refusal,
    RoutingTable,
)
from foreshard.model.move_state import MoveState
from foreshard.settings import Settings
from foreshard.stack.mongod import Mongod
from foreshard.wiring import Wiring
from foreshard_ui.overview import OverviewReader

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Airflow's API server warns about its dependencies
    from foreshard_ui import app as page

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
NASTY = "<script>alert('k')</script>"


class Browser:
    """Sends requests directly to the application."""

    def get(self, path: str, **headers: str) -> httpx.Response:
        return asyncio.run(self._get(path, headers))

    async def _get(self, path: str, headers: dict[str, str]) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(page.app), base_url="http://airflow") as client:
            return await client.get(path, headers=headers)


@pytest.fixture
def wiring(mongods: tuple[Mongod, ...], control: MongoClient, unique_name: str, tmp_path: Path) -> Iterator[Wiring]:
    settings = Settings.load(control_uri=mongods[0].uri, control_database=unique_name, data_dir=tmp_path / "data")
    with Wiring(settings) as wiring:
        yield wiring


@pytest.fixture
def browser(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    """A logged-in browser. Only the routes' dependency on a user is replaced."""
    reader = OverviewReader(wiring)
    monkeypatch.setattr(page, "wiring", lambda: wiring)
    monkeypatch.setattr(page, "reader", lambda: reader)
    guard = guards()[0]
    page.app.dependency_overrides[guard] = lambda: None
    yield Browser()
    page.app.dependency_overrides.clear()


def guards() -> list[object]:
    return [dependency.dependency for dependency in page.app.router.dependencies]


def fill(wiring: Wiring) -> None:
    partitions = (Partition("alpha", "San Jose", 10.0, "mongodb://a"), Partition("beta", "San Jose", 20.0, "mongodb://b"))
    wiring.registry.register(partitions, (Location("San Jose", 37.3, -121.9),))
    wiring.loads.report([PartitionLoad("alpha", 9.5, True, HOUR), PartitionLoad("beta", 2.0, False, HOUR)])
    rule = slot_map(("alpha", "beta"), (1.0, 1.0))
    placements = {name: Placement(name, where) for name, where in (("a", "alpha"), ("b", "alpha"), ("c", "beta"))}
    wiring.routing.initialise(RoutingTable(1, placements, rule, HOUR))
    why = Reason("relieve", f"keeps {NASTY} below the mark")
    plan = Plan(
        HOUR,
        1,
        moves=(Move("m1", (NASTY,), "alpha", "beta", 123_456, "clump", why),),
        shadows=(PlannedShadow("s1", "b", "alpha", "beta", why),),
        refusals=(Refusal("alpha", Reason("short", "capacity short by 3 cost/s in San Jose")),),
        warnings=(
            PlanWarning("alpha", Reason("finishes_late", "alpha needs its relief by Sun 09:00", {"late_seconds": 60.0})),
        ),
        lps_before={"alpha": 1.1, "beta": 0.2},
        lps_after={"alpha": 0.7, "beta": 0.5},
    )
    wiring.plans.save(plan)
    wiring.scores.save(HOUR, [score("alpha", 1.1), score("beta", 0.2)])
    wiring.gates.save(GateResult("plan", HOUR, False, (f"{NASTY} of 7 moves too many",), 9))
    for back in (1, 0):
        figures = {"all": {"keys": 3.0, "wape": 0.21, "bias": -0.02, "coverage": 0.91}, "seasonal_naive": {"wape": 0.35}}
        wiring.accuracy.save(HOUR - timedelta(hours=back), HOUR - timedelta(hours=24 + back), figures)
    wiring.move_journal.plan(plan.moves[0], HOUR)
    taken = wiring.move_journal.take("m1")
    wiring.move_journal.advance(taken, MoveState.COPYING, "begin", {"counters.documents": 250, "counters.total": 1_000})


def score(partition_id: str, lps: float) -> PartitionScore:
    return PartitionScore(HOUR, partition_id, lps, HOUR, 8.0, 10.0, 1.0, 2.0, 2, (lps,))


def test_every_route_requires_a_user_who_may_read_the_dags() -> None:
    routes = [route for route in page.app.routes if isinstance(route, APIRoute)]
    assert {route.path for route in routes} == {"/", "/docs/{path:path}", "/replays/{name}/{file}"}
    assert len(routes) == len(page.app.routes)
    for route in routes:
        assert guards()[0] in {dependency.call for dependency in route.dependant.dependencies}, route.path


@pytest.mark.parametrize("path", ["/", "/docs/", "/docs/index.html", "/replays/run-1/replay.html"])
def test_without_a_login_nothing_is_served(path: str) -> None:
    assert Browser().get(path).status_code == 401


def test_a_new_installation_shows_the_next_steps(browser: Browser) -> None:
    answer = browser.get("/")
    assert answer.status_code == 200
    assert "No partition is registered yet" in answer.text
    assert "No plan has been made yet" in answer.text


def test_it_shows_partitions_the_plan_with_reasons_moves_and_gates(browser: Browser, wiring: Wiring) -> None:
    fill(wiring)
    text = browser.get("/").text
    for wanted in (
        "alpha",
        "San Jose",
        "95 %",
        "110 %",
        "70 %",
        "unreachable",
        "120.6 KiB",
        "capacity short by 3 cost/s",
        "alpha needs its relief by Sun 09:00",
        "copying; 250 of 1,000 documents",
    ):
        assert wanted in text, wanted
    assert re.search(r"<b>1</b>routing table version", text)
    assert re.search(r"<b>3</b>keys listed", text)


def test_it_shows_the_accuracy_of_forecasts_beside_the_baseline(browser: Browser, wiring: Wiring) -> None:
    assert "No horizon has passed yet" in browser.get("/").text
    fill(wiring)
    text = browser.get("/").text
    for wanted in ("all models", "21 %", "-2 %", "91 %", "baseline: load of the week before", "35 %", "last 2 scored hours"):
        assert wanted in text, wanted
    assert len(re.findall(r'<path d="M0.0 [\d.]+L600.0 [\d.]+"', text)) == 2


def test_keys_are_shown_as_text_and_never_as_markup(browser: Browser, wiring: Wiring) -> None:
    fill(wiring)
    answer = browser.get("/")
    assert "<script" not in answer.text
    assert answer.text.count("&lt;script&gt;") >= 3
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_gate_links_to_its_data_docs(browser: Browser, wiring: Wiring) -> None:
    fill(wiring)
    docs = wiring.settings.data_dir / "data_docs"
    written = docs / "validations" / "plan" / "moves" / "2026-03-01" / "08" / "result.html"
    written.parent.mkdir(parents=True)
    written.write_text("<h1>the moves</h1>")
    (docs / "index.html").write_text("all of them")
    links = re.findall(r'href="(docs/[^"]+)"', browser.get("/").text)
    assert [browser.get(f"/{link}").text for link in links] == ["all of them", "<h1>the moves</h1>"]


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "%2Fetc/passwd",
        "/etc/passwd",
        "link",
        "folder",
        "none.html",
        "a%00b",
    ],
)
def test_data_docs_serve_nothing_outside_their_folder(browser: Browser, wiring: Wiring, path: str) -> None:
    docs = wiring.settings.data_dir / "data_docs"
    (docs / "folder").mkdir(parents=True)
    (docs.parent / "secret.txt").write_text("secret")
    (docs / "link").symlink_to(docs.parent / "secret.txt")
    answer = browser.get(f"/docs/{path}")
    assert answer.status_code == 404
    assert "secret" not in answer.text


def test_an_unreachable_control_database_is_one_line(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "mongodb://127.0.0.1:1/?directConnection=true&serverSelectionTimeoutMS=50"
    with Wiring(Settings.load(control_uri=gone)) as wiring:
        monkeypatch.setattr("foreshard.stores.mongo_connections.SERVER_SELECTION_MS", 50)
        monkeypatch.setattr(page, "reader", lambda: OverviewReader(wiring))
        answer = browser.get("/")
    assert answer.status_code == 503
    assert "the control database does not answer" in answer.text
    assert "Traceback" not in answer.text


def test_what_if_replays_are_linked_and_served_in_a_sandbox(browser: Browser, wiring: Wiring) -> None:
    folder = wiring.settings.data_dir / "replays" / "manual__2026-03-01T08-00"
    folder.mkdir(parents=True)
    (folder / "replay.html").write_text("<h1>the replay</h1>")
    (folder / "replay.json").write_text("{}")
    links = re.findall(r'href="(replays/[^"]+)"', browser.get("/").text)
    answers = [browser.get(f"/{link}") for link in links]
    assert [answer.text for answer in answers] == ["<h1>the replay</h1>", "{}"]
    assert all("sandbox allow-scripts" in answer.headers["Content-Security-Policy"] for answer in answers)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "run/secret.txt",
        "..%2f..%2fsecret.txt",
        "..%2freplays%2frun/replay.html",
        "%2e%2e/replay.html",
        "elsewhere/replay.html",
        "none/replay.html",
    ],
)
def test_replays_serve_nothing_but_their_pages_and_figures(browser: Browser, wiring: Wiring, path: str) -> None:
    folder = wiring.settings.data_dir / "replays" / "run"
    folder.mkdir(parents=True)
    for secret in (folder / "secret.txt", folder.parent.parent / "replay.html", folder.parent.parent / "secret.txt"):
        secret.write_text("secret")
    (folder / "replay.html").write_text("secret if reached through another name")
    outside = wiring.settings.data_dir / "outside"
    outside.mkdir()
    (outside / "replay.html").write_text("secret")
    (folder.parent / "elsewhere").symlink_to(outside)
    answer = browser.get(f"/replays/{path}")
    assert answer.status_code == 404
    assert "secret" not in answer.text
