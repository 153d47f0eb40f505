"""Keys are listed before their slots leave without them, and delisted when they are at home and nothing names them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.unit.stages.fakes import HOUR, Forecasts, Routing

from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import Move, Placement, PlacementChange, PlacementRule, Reason, RuleKind
from foreshard.model.key_space import slot_unit
from foreshard.stages.listing import delist_idle_keys, idle_keys, list_ruled_key, list_staying_keys

KEYS = tuple(f"k{n}" for n in range(6))


def ports(routing: Routing, named: tuple[str, ...], rules: tuple[PlacementRule, ...] = (), moves: tuple[Any, ...] = ()) -> Any:
    return SimpleNamespace(
        routing=routing,
        forecasts=Forecasts({HOUR: SimpleNamespace(keys=named)}),
        placement_rules=SimpleNamespace(rules=lambda: rules),
        move_journal=SimpleNamespace(find=lambda states: moves),
    )


def move(*units: str) -> Move:
    return Move("m", units, "alpha", "beta", 0, "c", Reason("r", "r"))


def unit_of(routing: Routing, key: str) -> str:
    return slot_unit(routing.space().slot_of(key))


def test_a_unit_whose_slot_moves_away_is_listed_where_it_is() -> None:
    routing = Routing({})
    listed = list_staying_keys(ports(routing, KEYS), HOUR, [move(unit_of(routing, "k0"), unit_of(routing, "k1"), "k1")])
    assert listed == ("k0",)
    assert dict(routing.table.placements) == {"k0": Placement("k0", "alpha", (), 1)}


def test_a_slot_that_another_move_holds_is_left_alone() -> None:
    routing = Routing({})
    held = (SimpleNamespace(move=move(unit_of(routing, "k0"))),)
    assert list_staying_keys(ports(routing, KEYS, moves=held), HOUR, [move(unit_of(routing, "k0"))]) == ()


def test_without_moves_of_slots_nothing_is_listed() -> None:
    routing = Routing({})
    assert list_staying_keys(ports(routing, KEYS), HOUR, [move("k0"), move("k1")]) == ()
    assert routing.published == []


def test_a_key_that_is_listed_already_stays_as_it_is() -> None:
    routing = Routing({"k0": Placement("k0", "gamma", ("beta",), 7)})
    assert list_staying_keys(ports(routing, KEYS), HOUR, [move(unit_of(routing, "k0"))]) == ()


def test_a_key_that_a_rule_names_is_listed_once() -> None:
    routing = Routing({})
    for _ in range(2):
        list_ruled_key(ports(routing, ()), "k0", "pinned")
    assert [changes[0].why for changes, _ in routing.published] == ["pinned"]


def test_only_keys_at_home_that_nothing_names_are_delisted() -> None:
    routing = Routing(
        {
            "idle": Placement("idle", "alpha", (), 4),
            "away": Placement("away", "beta"),
            "shadowed": Placement("shadowed", "alpha", ("beta",)),
            "hot": Placement("hot", "alpha"),
            "pinned": Placement("pinned", "alpha"),
            "moving": Placement("moving", "alpha"),
            "of a moving slot": Placement("of a moving slot", "alpha"),
        }
    )
    pin = PlacementRule(RuleKind.PIN, "pinned", partition_id="alpha")
    moves = tuple(SimpleNamespace(move=move(unit)) for unit in ("moving", unit_of(routing, "of a moving slot")))
    assert delist_idle_keys(ports(routing, ("hot",), (pin,), moves), HOUR) == ("idle",)
    assert "idle" not in routing.table.placements
    assert routing.published[0][0] == (PlacementChange("idle", "alpha", (), 4, 4, delist=True),)
    assert delist_idle_keys(ports(routing, ("hot",), (pin,), moves), HOUR) == ()


def test_idle_keys_of_an_empty_table_are_none() -> None:
    assert idle_keys(Routing({}).table, (), PlacementRules(), ()) == []
