"""The routed client with a real sidecar process, and without it."""

from __future__ import annotations

import itertools
import threading
from datetime import timedelta

import httpx
import pytest
from pymongo import DeleteOne
from tests.integration.client.sidecar_process import switch

from foreshard.client import RoutedClient
from foreshard.errors import Unreachable
from foreshard.model.key_space import KeySpace
from foreshard.routing.fence_lists import FenceLists
from foreshard.stack._process import stop
from foreshard.stores.partition.fences.fence import MongoFence

FENCE_TIMEOUT = timedelta(seconds=5)


def test_writers_follow_a_switched_key_and_lose_no_write(settings, store, sidecar, partition_clients, unique_name) -> None:
    sharded = settings.sharded_collections[0]
    stand = {name: c[unique_name]["things"] for name, c in partition_clients.items()}
    with RoutedClient.from_settings(settings, sidecar_url=sidecar[0], access_records=False) as client:
        things = client[unique_name]["things"]
        things.insert_one({"_id": 1, "station": "k", "n": 0})
        stop_writing, counts = threading.Event(), []

        def fence_on(name: str) -> MongoFence:
            return MongoFence(partition_clients[name], sharded, expected=lambda: FenceLists(KeySpace()), timeout=FENCE_TIMEOUT)

        def write() -> None:
            count = 0
            while not stop_writing.is_set():
                assert things.update_one({"station": "k"}, {"$inc": {"n": 1}}).modified_count == 1
                count += 1
            counts.append(count)

        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        places = ["alpha", "beta", "gamma", "alpha"]
        for source, target in itertools.pairwise(places):
            before = stand[source].find_one({"_id": 1})["n"]
            while stand[source].find_one({"_id": 1})["n"] < before + 20:
                stop_writing.wait(0.005)
            fence_on(source).fence(["k"])
            stand[target].delete_many({})
            stand[target].insert_many(list(stand[source].find()), bypass_document_validation=True)
            fence_on(target).unfence(["k"])
            switch(store, "k", target)
        stop_writing.set()
        for writer in writers:
            writer.join()
        assert len(counts) == 3
        assert stand["alpha"].find_one({"_id": 1})["n"] == sum(counts)
        assert things.count_documents({}) == 1
        assert things.find_one({"station": "k"})["n"] == sum(counts)
    for partition_client in partition_clients.values():
        partition_client["foreshard"]["fences"].delete_one({"_id": sharded.namespace})


def test_without_its_sidecar_a_client_routes_from_the_saved_table_or_reports_what_is_missing(
    settings, store, sidecar, unique_name, partition_clients
) -> None:
    url, spec = sidecar
    folder = settings.data_dir / "routing"
    with RoutedClient.from_settings(settings, sidecar_url=url, access_records=False) as client:
        client[unique_name]["things"].insert_many([{"_id": 1, "station": "k"}, {"_id": 2, "station": "unlisted"}])
    waiting = threading.Event()
    while not (folder / "table.frt").exists():
        waiting.wait(0.05)
    stop(spec.pid_path)
    with (
        RoutedClient.from_settings(
            settings, sidecar_url=url, access_records=False, routing_folder=settings.data_dir / "nowhere"
        ) as alone,
        pytest.raises(Unreachable, match="sidecar at http"),
    ):
        alone[unique_name]["things"].find_one({"station": "k"})
    with RoutedClient.from_settings(settings, sidecar_url=url, access_records=False) as client:
        things = client[unique_name]["things"]
        assert things.update_one({"station": "k"}, {"$set": {"n": 1}}).modified_count == 1
        assert sorted(d["_id"] for d in things.find()) == [1, 2]


def test_reads_writes_and_deletes_by_key_do_not_ask_the_sidecar(settings, store, sidecar, unique_name) -> None:
    url, _ = sidecar
    waiting = threading.Event()
    while not (settings.data_dir / "routing" / "table.frt").exists():
        waiting.wait(0.05)

    def asked() -> float:
        lines = httpx.get(url + "/metrics", timeout=5).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("foreshard_sidecar_requests_total"))

    before = asked()
    with RoutedClient.from_settings(settings, sidecar_url=url, access_records=False) as client:
        things = client[unique_name]["things"]
        for number in range(20):
            things.insert_one({"_id": number, "station": "k"})
            assert things.find_one({"station": "k", "_id": number}) is not None
            assert things.update_one({"station": "k", "_id": number}, {"$set": {"n": 1}}).modified_count == 1
        assert len(list(things.find({"station": {"$in": ["k", "unlisted"]}}))) == 20
        assert client.route("k", "write").partition == "alpha"
        assert things.delete_one({"station": "k", "_id": 1}).deleted_count == 1
        assert things.bulk_write([DeleteOne({"station": "k", "_id": 2})]).deleted_count == 1
        assert asked() == before
