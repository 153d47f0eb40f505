"""Draining and the rota of comparisons, with every port in memory."""

import pytest
from tests.unit.stages.fakes import Ports, Registry, Routing

from foreshard.errors import UnknownPartition
from foreshard.model import Partition, PartitionState, Placement
from foreshard.stages.upkeep import drain_partition

TABLE = {"a": Placement("a", "alpha"), "b": Placement("b", "beta", ("alpha",)), "c": Placement("c", "alpha", ("beta",))}


def ports():
    return Ports(registry=Registry(Partition("alpha", "west", 1.0), Partition("beta", "east", 1.0)), routing=Routing(TABLE))


def test_draining_sets_the_state_and_counts_the_copies_that_are_left():
    at = ports()
    summary = drain_partition(at, "alpha")
    assert at.registry.partition("alpha").state is PartitionState.DRAINING
    assert (summary.state, summary.slots, summary.listed_keys, summary.shadow_copies) == ("draining", 4096, 2, 1)


def test_a_drained_partition_can_be_activated_again():
    at = ports()
    drain_partition(at, "alpha")
    assert drain_partition(at, "alpha", active=True).state == "active"
    assert at.registry.partition("alpha").state is PartitionState.ACTIVE


def test_an_unknown_partition_is_refused():
    with pytest.raises(UnknownPartition):
        drain_partition(ports(), "gone")
