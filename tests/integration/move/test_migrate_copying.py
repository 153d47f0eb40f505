"""Copy and comparison on real replica sets: what is read again after a kill, and what a comparison finds."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from foreshard.model.unit_set import unit_set
from foreshard.move import _copying
from foreshard.move._unit_sync import UnitSync
from foreshard.move.context import MoveContext
from foreshard.stages import migrate
from foreshard.stages.moving import context as moving_context
from foreshard.stores.partition.unit_copy import MongoUnitCopy


@pytest.fixture
def beat_always(monkeypatch):
    monkeypatch.setattr(moving_context, "MoveContext", partial(MoveContext, beat_every=timedelta(0)))


@pytest.mark.parametrize("world", ["key", "slot"], indirect=True)
def test_a_copy_that_was_killed_does_not_read_its_first_documents_again(world, cut_off, monkeypatch, beat_always):
    world.fill(1_000)
    move_id = world.plan("alpha", "beta")
    write, scan, read = MongoUnitCopy.write, MongoUnitCopy.scan, []

    def cut(self, namespace, remove, put):
        if world.trips("beta").count_documents({"at.station": world.key}) >= 700:
            raise cut_off.error
        write(self, namespace, remove, put)

    def count(self, namespace, skip=0):
        for batch in scan(self, namespace, skip):
            read.extend(document.id for document in batch if self.partition_id == "alpha")
            yield batch

    monkeypatch.setattr(_copying, "READ_AGAIN", 50)
    monkeypatch.setattr(MongoUnitCopy, "write", cut)
    world.run_until_cut_off(move_id)
    monkeypatch.setattr(MongoUnitCopy, "write", write)
    monkeypatch.setattr(MongoUnitCopy, "scan", count)
    summary = migrate.run_move(world.wiring, move_id)
    assert (summary.state, summary.documents) == ("switched", 1_001)
    assert 300 < len(read) <= 400
    assert len(world.copies()["beta"]) == 1_000


def test_documents_that_a_resumed_copy_skipped_are_found_by_the_comparison(world, cut_off, monkeypatch, beat_always):
    """Deletes on the source move later documents forward, past the place where the copy resumes."""
    world.fill(1_000)
    move_id = world.plan("alpha", "beta")
    write = MongoUnitCopy.write

    def cut(self, namespace, remove, put):
        if world.trips("beta").count_documents({"at.station": world.key}) >= 700:
            raise cut_off.error
        write(self, namespace, remove, put)

    monkeypatch.setattr(_copying, "READ_AGAIN", 50)
    monkeypatch.setattr(MongoUnitCopy, "write", cut)
    world.run_until_cut_off(move_id)
    monkeypatch.setattr(MongoUnitCopy, "write", write)
    world.trips("alpha").delete_many({"at.station": world.key, "n": {"$lt": 200}})
    assert migrate.run_move(world.wiring, move_id).state == "switched"
    assert len(world.copies()["beta"]) == 800


@pytest.mark.parametrize("world", ["key", "slot", "int"], indirect=True)
def test_a_comparison_finds_every_document_that_differs_or_is_on_one_side_only(world):
    key = "77" if world.wiring.routing.space().key_type.value == "int" else world.key
    value = 77 if key == "77" else key
    documents = [{"_id": n, "at": {"station": value}, "n": n} for n in range(3_000)]
    world.trips("alpha").insert_many(documents)
    world.trips("beta").insert_many([*documents[:1_500], *documents[1_501:]])
    world.trips("beta").update_one({"_id": 7}, {"$set": {"n": -1}})
    world.trips("beta").insert_one({"_id": "only there", "at": {"station": value}})
    world.trips("beta").insert_one({"_id": "of another key", "at": {"station": 78 if key == "77" else "other"}})
    space = world.wiring.routing.space()
    units = unit_set([world.unit if world.by_slot else key], space)
    source, target = (world.wiring.unit_copy(name, "a comparison", units) for name in ("alpha", "beta"))
    try:
        found = UnitSync(source, target, 100).compare_all(lambda: None)
        assert {name: len(ids) for name, ids in found.items() if ids} == {f"{world.database}.trips": 3}
        world.trips("beta").drop()
        assert len(UnitSync(source, target, 1_000).compare_all(lambda: None)[f"{world.database}.trips"]) == 3_000
    finally:
        source.close()
        target.close()
