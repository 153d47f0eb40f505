"""A small Beanie app on the asynchronous routed client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from beanie import Document, init_beanie
from beanie.operators import Inc, Set
from pymongo import AsyncMongoClient, IndexModel
from tests.integration.client.conftest import PATIENCE
from tests.integration.client.looped import Loop

from foreshard.client._partition_clients import PartitionClients
from foreshard.client._routed_client import AsyncRoutedClient
from foreshard.client.routing.sidecar_routes import SidecarRoutes
from foreshard.errors import UnroutableOperation


class Wheel(Document):
    """A bike at a station, which is the key."""

    station: str
    n: int = 0

    class Settings:
        """Beanie's form."""

        name = "things"
        indexes = [IndexModel([("n", 1)])]  # noqa: RUF012


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def app(loop: Loop, answerer, sharded) -> Iterator[AsyncRoutedClient]:
    """The app, with eight bikes at three stations on three partitions."""
    for key, partition in (("a", "alpha"), ("b", "beta"), ("c", "gamma")):
        answerer.place(key, partition)
    client = AsyncRoutedClient(
        SidecarRoutes(answerer.url), PartitionClients(lambda uri: AsyncMongoClient(uri, **PATIENCE)), [sharded]
    )

    async def start() -> None:
        database: Any = client[sharded.database]
        await init_beanie(database=database, document_models=[Wheel])
        await Wheel.insert_many([Wheel(station=station, n=number) for number, station in enumerate("abcabcab")])

    loop.run(start())
    yield client
    loop.run(client.close())


def test_an_app_saves_finds_changes_and_deletes_its_documents(loop: Loop, app, stand) -> None:
    async def use() -> None:
        assert [wheel.n async for wheel in Wheel.find_all().sort("-n").skip(1).limit(3)] == [6, 5, 4]
        assert await Wheel.find(Wheel.station == "a").count() == 3
        wheel = await Wheel.find_one(Wheel.station == "c", Wheel.n > 2)
        assert wheel is not None
        assert (await Wheel.get(wheel.id)) == wheel
        wheel.n = 99
        await wheel.save()
        assert (await Wheel.get(wheel.id)).n == 99
        await wheel.set({Wheel.n: 98})
        await wheel.inc({Wheel.n: 1})
        await wheel.sync()
        assert wheel.n == 99
        wheel.n = 97
        await wheel.replace()
        assert (await Wheel.get(wheel.id)).n == 97
        await Wheel.find(Wheel.station == "a").update(Inc({Wheel.n: 10}))
        await Wheel.find_one(Wheel.station == "a", Wheel.n == 10).update(Set({Wheel.n: 11}))
        await wheel.delete()
        assert await Wheel.get(wheel.id) is None
        await Wheel.find(Wheel.station == "b").delete()
        made = await Wheel(station="b", n=1).save()
        assert (await Wheel.get(made.id)).n == 1

    loop.run(use())
    assert all("n_1" in c.index_information() for c in stand.values())
    assert sorted(d["n"] for c in stand.values() for d in c.find()) == [1, 2, 11, 13, 16]
    assert [c.count_documents({}) for c in stand.values()] == [3, 1, 1]


def test_an_app_aggregates_and_has_transactions(loop: Loop, app) -> None:
    async def use() -> None:
        assert await Wheel.find_all().sum(Wheel.n) == 28
        assert await Wheel.find(Wheel.n > 1).avg(Wheel.n) == 4.5
        rows = await Wheel.aggregate([{"$group": {"_id": "$station"}}, {"$sort": {"_id": 1}}]).to_list()
        assert [row["_id"] for row in rows] == ["a", "b", "c"]
        async with app.start_session() as session:
            async with await session.start_transaction():
                wheels = await Wheel.find(Wheel.station == "a", session=session).to_list()
                await Wheel.find(Wheel.station == "a").update(Set({Wheel.n: 0}), session=session)
                await Wheel(station="a", n=50).insert(session=session)
            assert len(wheels) == 3
        assert sorted(wheel.n for wheel in await Wheel.find(Wheel.station == "a").to_list()) == [0, 0, 0, 50]

    loop.run(use())


def test_what_names_no_key_is_refused(loop: Loop, app) -> None:
    async def refused(work: Any) -> None:
        with pytest.raises(UnroutableOperation):
            await work

    loop.run(refused(Wheel.find_all().update(Set({Wheel.n: 0}))))
    loop.run(refused(Wheel.find(Wheel.n > 3).delete()))
    loop.run(refused(Wheel.delete_all()))
