"""A killed mover's open transaction is ended. An app's transaction never is."""

from __future__ import annotations

from datetime import timedelta

from pymongo import MongoClient

from foreshard.stores.control._transactions import in_transaction
from foreshard.stores.mongo_connections import LOOP
from foreshard.stores.partition import dead_transactions
from foreshard.stores.partition.dead_transactions import end_dead_transactions, past_dead_transactions


def test_a_write_gets_past_a_transaction_of_the_loop_that_nobody_drives(mongods, control, unique_name, monkeypatch):
    monkeypatch.setattr(dead_transactions, "IDLE", timedelta())
    control[unique_name]["moves"].insert_one({"_id": 1})
    with MongoClient(mongods[0].uri, appname=LOOP) as dead, dead.start_session() as session:
        session.start_transaction()
        dead[unique_name]["moves"].update_one({"_id": 1}, {"$set": {"by": "the dead"}}, session=session)
        past_dead_transactions(
            control,
            lambda limit: control[unique_name]["moves"].find_one_and_update(
                {"_id": 1}, {"$set": {"n": 1}}, maxTimeMS=limit // 10
            ),
        )
    assert control[unique_name]["moves"].find_one() == {"_id": 1, "n": 1}


def test_a_transaction_of_the_control_database_gets_past_one_of_a_dead_process(mongods, control, unique_name, monkeypatch):
    monkeypatch.setattr(dead_transactions, "IDLE", timedelta())
    database = control[unique_name]
    database["routing_state"].insert_one({"_id": 1})
    with MongoClient(mongods[0].uri, appname=LOOP) as dead, dead.start_session() as session:
        session.start_transaction()
        dead[unique_name]["routing_state"].update_one({"_id": 1}, {"$set": {"by": "the dead"}}, session=session)
        change = {"$set": {"n": 1}}
        in_transaction(database, lambda own: database["routing_state"].update_one({"_id": 1}, change, session=own))
    assert database["routing_state"].find_one() == {"_id": 1, "n": 1}


def test_an_apps_transaction_is_left_alone_however_long_it_is_idle(mongods, control, unique_name, monkeypatch):
    monkeypatch.setattr(dead_transactions, "IDLE", timedelta())
    control[unique_name]["trips"].insert_one({"_id": 1})
    with MongoClient(mongods[0].uri, appname="foreshard") as app, app.start_session() as session:
        session.start_transaction()
        app[unique_name]["trips"].update_one({"_id": 1}, {"$set": {"by": "an app"}}, session=session)
        assert end_dead_transactions(control) == 0
        session.commit_transaction()
    assert control[unique_name]["trips"].find_one()["by"] == "an app"
