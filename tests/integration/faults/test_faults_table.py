"""The fault table of the docs, row by row, with real processes."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from pymongo import MongoClient
from tests.integration.client.looped import Loop, Looped
from tests.integration.faults.deployment import Deployment, wait_until

from foreshard.client import AsyncRoutedClient, ClientOptions, RoutedClient
from foreshard.errors import Unreachable
from foreshard.model import Placement, PlacementChange
from foreshard.stores.files.routing_file import RoutingFile
from foreshard.wiring import Wiring

KEYS = {"k": Placement("k", "alpha", ("beta",)), "m": Placement("m", "beta")}


def client_of(deployment: Deployment, deadline: float = 5.0, **options: object) -> RoutedClient:
    options = {"access_records": False, "location": "alpha", **options}
    return RoutedClient.from_settings(
        deployment.settings, sidecar_url=deployment.url, options=ClientOptions(deadline=deadline), **options
    )


def shadow_of_k(deployment: Deployment, caught_up_at: datetime) -> None:
    """The shadow of k on beta, as the loop records it."""
    with MongoClient(deployment.mongods[0].uri) as control:
        control[deployment.database]["shadows"].update_one(
            {"_id": "s"},
            {"$set": {"key": "k", "source": "alpha", "target": "beta", "state": "live", "caught_up_at": caught_up_at}},
            upsert=True,
        )


def test_without_the_control_database_the_last_table_serves_and_its_age_shows(deployment: Deployment) -> None:
    deployment.publish(KEYS)
    deployment.start_sidecar()
    wait_until((deployment.routing / "table.frt").exists)
    control = deployment.mongods[0]
    with client_of(deployment) as client:
        things = client[deployment.database]["things"]
        things.insert_one({"_id": 1, "k": "k", "n": 0})
        control.stop()
        wait_until(lambda: deployment.figure("connected") == 0)
        before = deployment.figure("table_age_seconds")
        assert deployment.route("k", "write")["partition"] == "alpha"
        assert things.update_one({"k": "k"}, {"$inc": {"n": 1}}).modified_count == 1
        assert things.delete_one({"k": "m"}).deleted_count == 0
        assert things.find_one({"k": "k"}) == {"_id": 1, "k": "k", "n": 1}
        wait_until(lambda: deployment.figure("table_age_seconds") > before + 1)
        control.start()
        wait_until(lambda: deployment.figure("connected") == 1)
        wait_until(lambda: deployment.figure("table_age_seconds") < 2)
        with Wiring(deployment.settings) as wiring:
            wiring.routing.publish([PlacementChange("new", "beta", (), 0, 1)], "after the outage")
        wait_until(lambda: deployment.route("new", "write")["partition"] == "beta")


def test_while_a_partition_is_down_reads_go_to_a_fresh_copy_and_writes_wait_and_say_so(deployment: Deployment) -> None:
    deployment.publish(KEYS)
    deployment.start("load", "report")
    deployment.start_sidecar()
    alpha = deployment.mongods[1]
    with client_of(deployment, deadline=2.0) as client, deployment.stand("beta") as beta:
        things = client[deployment.database]["things"]
        things.insert_one({"_id": 1, "k": "k", "n": 0})
        beta[deployment.database]["things"].insert_one({"_id": 1, "k": "k", "n": 0})
        shadow_of_k(deployment, datetime.now(UTC) + timedelta(minutes=10))
        wait_until(lambda: deployment.route("k")["reason_code"] == "nearest_with_room")
        assert things.find_one({"k": "k"}) == {"_id": 1, "k": "k", "n": 0}
        alpha.stop()
        wait_until(lambda: deployment.route("k")["reason_code"] == "nearer_unreachable")
        assert deployment.route("k")["partition"] == "beta"
        assert deployment.route("k", "write")["reason_code"] == "write_primary_unreachable"
        assert things.find_one({"k": "k"}) == {"_id": 1, "k": "k", "n": 0}
        assert [d["_id"] for d in things.find({"k": "k"})] == [1]
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="partition alpha"):
            things.update_one({"k": "k"}, {"$inc": {"n": 1}})
        assert time.monotonic() - begun >= 2.0
        assert things.insert_one({"_id": 2, "k": "m"}).acknowledged
        alpha.start()
    with client_of(deployment, deadline=20.0) as patient:
        things = patient[deployment.database]["things"]
        assert things.find_one({"_id": 1, "k": "k"})["n"] == 0
        alpha.stop()
        back = threading.Timer(1.0, alpha.start)
        back.start()
        assert things.update_one({"k": "k"}, {"$inc": {"n": 1}}).modified_count == 1
        back.join()


def test_a_read_finds_a_partition_down_before_its_reporter_does_and_goes_to_a_fresh_copy(deployment: Deployment) -> None:
    deployment.publish(KEYS)
    deployment.start_sidecar()
    shadow_of_k(deployment, datetime.now(UTC) + timedelta(minutes=10))
    loop = Loop()
    asynchronous = AsyncRoutedClient.from_settings(
        deployment.settings,
        sidecar_url=deployment.url,
        access_records=False,
        location="alpha",
        options=ClientOptions(deadline=1.0),
    )
    with client_of(deployment, deadline=1.0) as client, deployment.stand("beta") as beta:
        beta[deployment.database]["things"].insert_one({"_id": 1, "k": "k"})
        both = (client[deployment.database]["things"], Looped(asynchronous[deployment.database]["things"], loop))
        both[0].insert_one({"_id": 1, "k": "k"})
        live = deployment.routing / "live" / "state.json"
        wait_until(lambda: live.exists() and "beta" in live.read_text())
        for things in both:
            assert things.find_one({"k": "k"}) == {"_id": 1, "k": "k"}
        deployment.mongods[1].stop()
        for things in both:
            assert things.find_one({"k": "k"}) == {"_id": 1, "k": "k"}
            assert things.count_documents({"k": "k"}) == 1
    loop.run(asynchronous.close())
    loop.close()


@pytest.mark.parametrize("damage", ["cut off", "one bit"])
def test_a_damaged_table_file_is_refused_loudly_and_the_one_before_answers(deployment: Deployment, damage: str) -> None:
    deployment.publish(KEYS)
    deployment.start_sidecar()
    wait_until((deployment.routing / "table.frt").exists)
    deployment.stop("sidecar")
    file = RoutingFile(deployment.routing)
    saved = file.load()
    assert saved is not None
    file.save(saved)
    content = bytearray(file.path.read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    file.path.write_bytes(content if damage == "one bit" else content[:-9])
    deployment.mongods[0].stop()
    with client_of(deployment) as client:
        assert client.route("m", "write").partition == "beta"
    deployment.start_sidecar()
    assert deployment.route("m", "write")["partition"] == "beta"
    assert deployment.figure("refused_files_total") == 1
    assert "it is refused, and the previous one is used" in deployment.log("sidecar")
    assert (deployment.routing / "refused.frt").exists()
