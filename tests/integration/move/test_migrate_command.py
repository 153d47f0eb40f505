"""``foreshard moves`` on the command line."""

from __future__ import annotations

from datetime import timedelta

import pytest
from click.testing import CliRunner

from foreshard.cli.moves import moves
from foreshard.errors import UnknownMove
from foreshard.model import Partition
from foreshard.model.key_space import KeySpace
from foreshard.model.move_state import OPEN


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
    assert "21 of 21 documents" in listed
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
    assert f"alpha → beta  slot {slot}  forwarding late changes" in command("list")
    assert "is done" in command("clean")
    for wrong, problem in ((("beta",), "name at least one"), (("beta", "--slot", "4096"), "slots are 0 to 4095")):
        result = CliRunner().invoke(moves, ["move", *wrong])
        assert (result.exit_code, problem in result.output) == (2, True)


@pytest.fixture
def exits(world, command):
    """Runs a command and returns its exit code and its last line."""

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(moves, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            return 1, str(result.exception)
        return result.exit_code, result.output.strip().splitlines()[-1]

    return run


def test_a_skipped_or_reverted_move_exits_with_1_and_says_why(world, exits):
    skipped = world.plan("beta", "gamma")
    code, line = exits("run", skipped)
    assert code == 1
    assert "is reverted: skipped:" in line
    reverted = world.plan("alpha", "beta")
    assert exits("revert", reverted)[0] == 0
    assert exits("resume", reverted)[0] == 1


def test_a_move_to_a_partition_that_is_down_is_one_line_ends_and_exits_with_1(world, exits):
    world.fill(5)
    world.wiring.registry.register([Partition("down", "here", 1.0, "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300")], [])
    code, line = exits("move", world.key, "down")
    assert code == 1
    assert "down" in line
    assert "Timeout" not in line
    assert not world.wiring.move_journal.find(OPEN)
    assert not world.refused("alpha")


def test_a_switched_move_cannot_be_reverted(world, exits):
    world.fill(5)
    assert exits("move", world.key, "beta")[0] == 0
    move_id = world.wiring.move_journal.find()[0].move_id
    assert exits("revert", move_id)[0] == 1


def test_limits_are_printed_and_changed(world, command):
    assert "bytes per second and move: 10,485,760" in command("throttle")
    changed = command("throttle", "--bytes-per-second", "0", "--documents-per-second", "5000", "--hold")
    assert "bytes per second and move: no limit" in changed
    assert "documents per second and move: 5,000" in changed
    assert "all moves are held" in changed
    assert "moves are not held" in command("throttle", "--go-on")
    assert world.wiring.migration_limits.read().documents_per_second == 5_000


def test_a_dry_run_of_a_refused_move_exits_with_1(world, exits):
    code, line = exits("move", world.key, "alpha", "--dry-run")
    assert (code, line) == (1, "it would be refused: it is on alpha already")


def test_the_exporter_lets_a_switched_move_wait_while_its_sources_copy_is_kept(world, command):
    world.fill(5)
    command("move", world.key, "beta")
    kept = timedelta(hours=1)
    switched = world.wiring.move_journal.status(timedelta()).waiting_since
    assert world.wiring.move_journal.status(kept).waiting_since == switched + kept
