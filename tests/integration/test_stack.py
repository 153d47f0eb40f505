import pytest
from pymongo import MongoClient

from foreshard.errors import PortInUse
from foreshard.stack._process import require_free_port
from foreshard.stack.kafka import Kafka, create_topic
from foreshard.stack.mongod import Mongod


def test_a_mongod_of_the_stack_takes_majority_writes(control: MongoClient, unique_name: str) -> None:
    control[unique_name].things.insert_one({"_id": 1})
    assert control[unique_name].things.count_documents({}) == 1


def test_a_broker_of_the_stack_creates_a_topic_once_however_often_it_is_asked(kafka: Kafka, unique_name: str) -> None:
    create_topic(kafka.bootstrap, unique_name)
    create_topic(kafka.bootstrap, unique_name)


def test_a_taken_port_is_named_in_the_error(mongods: tuple[Mongod, ...]) -> None:
    with pytest.raises(PortInUse, match=str(mongods[0].port)):
        require_free_port("mongod", mongods[0].port)
