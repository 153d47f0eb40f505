"""``foreshard moves`` on the command line."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from foreshard.cli.moves import moves
from foreshard.errors import UnknownMove
from foreshard.model.key_space import KeySpace


@pytest.fixture
def command(world, monkeypatch):
    for name, value in world.environment.items():
        if name.startswith("FORESHARD_"):
            monkeypatch.setenv(name, value)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(moves, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_a_key_is_moved_by_hand_shown_cleaned_and_undone(world, command):
    world.fill(20)
    assert "21 documents would move to beta" in command("move", world.key, "beta", "--dry-run")
    assert world.owner() == "alpha"
    assert "alpha → beta is switched (21 documents" in command("move", world.key, "beta")
    listed = command("list")
    move_id = listed.split()[0]
    assert "switched" in listed
    assert "21/21" in listed
    shown = command("show", move_id)
    assert "by switch (lease 1)" in shown
    assert "pause ms" in shown
    assert "is done" in command("clean")
    assert "no open moves" in command("list")
    assert "beta → alpha is switched" in command("undo", move_id)
    assert world.owner() == "alpha"


def test_a_planned_move_is_stopped_resumed_and_reverted(world, command):
    move_id = world.plan("alpha", "beta")
    assert "asked to pause in planned" in command("stop", move_id)
    assert "is reverted: reverted: too early" in command("revert", move_id, "--reason", "too early")
    again = world.plan("alpha", "beta")
    assert "is switched" in command("resume", again)
    assert command("resume").strip() == "nothing to do"


def test_an_unknown_move_is_one_line(command):
    with pytest.raises(UnknownMove, match="no move 'nothing' in the journal"):
        command("show", "nothing")


@pytest.mark.parametrize("world", ["slot"], indirect=True)
def test_slots_and_keys_are_moved_by_hand_as_one_move(world, command):
    world.fill(20)
    slot = KeySpace().slot_of(world.key)
    preview = command("move", "stranger", "beta", "--slot", f"{slot - 1}-{slot}", "--dry-run")
    assert "2 slots and 1 key is on alpha" in preview
    assert "21 documents would move to beta" in preview
    assert f"slot {slot} alpha → beta is switched (21 documents" in command("move", "beta", "--slot", str(slot))
    assert f"alpha → beta  slot {slot}  21/21" in command("list")
    assert "is done" in command("clean")
    for wrong, problem in ((("beta",), "name at least one"), (("beta", "--slot", "4096"), "slots are 0 to 4095")):
        result = CliRunner().invoke(moves, ["move", *wrong])
        assert (result.exit_code, problem in result.output) == (2, True)
