"""The checker of histories: orders that exist are found, and none is found where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.move_proofs.history import Call, Kind, Outcome, Recorder, by_document, check, to_json

PORCUPINE = Path(__file__).with_name("porcupine")


def call(kind: str, value=None, found=None, invoked=0, returned=None, outcome="ok", client=0) -> Call:
    return Call("d", client, Kind(kind), value, found, invoked, returned, Outcome(outcome))


def test_an_insert_an_update_a_read_and_a_delete_in_a_row_are_linearizable():
    calls = [
        call("read", None, None, 0, 1),
        call("insert", "a", "no", 2, 3),
        call("insert", "z", "yes", 4, 5),
        call("update", "b", "yes", 6, 7),
        call("read", None, "b", 8, 9),
        call("delete", None, "yes", 10, 11),
        call("update", "c", "no", 12, 13),
        call("upsert", "d", "no", 14, 15),
        call("read", None, "d", 16, 17),
    ]
    assert check(calls).linearizable
    assert check(calls[4:], first="b").linearizable


@pytest.mark.parametrize(
    "calls",
    [
        [call("insert", "a", "no", 0, 1), call("read", None, None, 2, 3)],
        [call("insert", "a", "no", 0, 1), call("insert", "b", "no", 2, 3)],
        [call("insert", "a", "no", 0, 1), call("delete", None, "yes", 2, 3), call("read", None, "a", 4, 5)],
        [call("insert", "a", "no", 0, 9), call("read", None, "a", 1, 2), call("read", None, None, 3, 4)],
        [call("read", None, "never written", 0, 1)],
        [call("upsert", "a", "no", 0, 1, "refused"), call("read", None, "a", 2, 3)],
    ],
)
def test_lost_doubled_and_resurrected_writes_are_not_linearizable(calls):
    verdict = check(calls)
    assert not verdict.linearizable
    assert "none of these can come next" in verdict.explain()


def test_concurrent_writes_may_take_effect_in_either_order():
    both = [call("upsert", "a", None, 0, 9), call("upsert", "b", None, 0, 9)]
    assert check([*both, call("read", None, "a", 10, 11)]).linearizable
    assert check([*both, call("read", None, "b", 10, 11)]).linearizable
    assert not check([*both, call("read", None, "a", 10, 11), call("read", None, "b", 12, 13)]).linearizable


def test_an_unknown_write_may_take_effect_late_or_never_but_not_twice_and_not_early():
    lost = call("upsert", "u", None, 5, None, "unknown")
    around = [call("upsert", "a", "no", 0, 1), call("upsert", "b", "yes", 20, 21)]
    assert check([lost, *around, call("read", None, "b", 30, 31)]).linearizable
    assert check([lost, *around, call("read", None, "u", 30, 31)]).linearizable
    assert not check([lost, *around, call("read", None, "u", 2, 3)]).linearizable
    twice = [call("read", None, "u", 6, 7), call("read", None, "b", 22, 23), call("read", None, "u", 30, 31)]
    assert not check([lost, *around, *twice]).linearizable


def test_the_recorder_notes_answers_refusals_and_open_outcomes():
    recorder = Recorder()
    assert recorder.run("d", 1, Kind.READ, None, lambda: "x", (OSError,)) == "x"
    for error, outcome in ((KeyError, Outcome.REFUSED), (TimeoutError, Outcome.UNKNOWN)):

        def fail(error=error):
            raise error

        with pytest.raises(error):
            recorder.run("d", 1, Kind.DELETE, None, fail, (OSError,))
        assert recorder.taken()[-1].outcome is outcome
    assert by_document(recorder.taken()) == {}


def generated(random: Random, length: int = 40, clients: int = 5, first: str | None = None) -> list[Call]:
    """A linearizable history: every call takes effect at a moment between its invocation and its answer."""
    calls, state, busy = [], first, [0] * clients
    for number in range(length):
        moment, client = 10 * number + 5, random.randrange(clients)
        invoked = max(busy[client], moment - random.randint(0, 60))
        if invoked > moment:
            continue
        busy[client] = moment + random.randint(1, 60)
        kind = random.choice(list(Kind))
        made = Call("d", client, kind, None if kind in (Kind.READ, Kind.DELETE) else f"v{number}", None, invoked, busy[client])
        before, (_, state) = state, made.after(state)
        found = before if kind is Kind.READ else random.choice(["yes" if before is not None else "no", None])
        made = replace(made, found=found)
        if random.random() < 0.1:
            made = replace(made, found=None, returned=None, outcome=Outcome.UNKNOWN)
        calls.append(made)
    ghost = Call("d", 0, Kind.UPSERT, "never done", None, 5, None, Outcome.UNKNOWN)
    return [*calls, ghost, replace(ghost, value="refused", outcome=Outcome.REFUSED, returned=9)]


def mutated(random: Random, calls: list[Call]) -> list[Call] | None:
    """The same with one read that answers what was never written."""
    reads = [n for n, made in enumerate(calls) if made.kind is Kind.READ and made.outcome is Outcome.OK]
    if not reads:
        return None
    chosen = random.choice(reads)
    return [replace(made, found="mutated") if n == chosen else made for n, made in enumerate(calls)]


@given(st.integers(0, 2**32), st.sampled_from([None, "first"]))
def test_every_generated_history_is_linearizable_and_none_is_with_a_mutated_value(seed, first):
    random = Random(seed)
    calls = generated(random, first=first)
    random.shuffle(calls)
    assert check(calls, first).linearizable
    wrong = mutated(random, calls)
    assert wrong is None or not check(wrong, first).linearizable


def swapped(random: Random, calls: list[Call]) -> list[Call]:
    """The same with the answers of two reads exchanged. Some of these histories are linearizable, others are not."""
    reads = [n for n, made in enumerate(calls) if made.kind is Kind.READ and made.outcome is Outcome.OK]
    if len(reads) < 2:
        return calls
    one, other = random.sample(reads, 2)
    calls = list(calls)
    calls[one], calls[other] = replace(calls[one], found=calls[other].found), replace(calls[other], found=calls[one].found)
    return calls


@pytest.fixture(scope="session")
def porcupine(tmp_path_factory) -> Path:
    """The second opinion, built from its module."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    binary = tmp_path_factory.mktemp("porcupine") / "check"
    built = subprocess.run(
        [go, "build", "-o", str(binary), "."], cwd=PORCUPINE, capture_output=True, text=True, check=False, timeout=300
    )
    if "dial tcp" in built.stderr or "proxyconnect" in built.stderr or "no such host" in built.stderr:
        pytest.skip(f"the module cannot be fetched: {built.stderr.splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    return binary


def test_porcupine_agrees_with_every_verdict(porcupine):
    """400 histories, about half of them not linearizable."""
    histories = []
    for seed in range(400):
        random = Random(seed)
        calls = generated(random, length=25)
        histories.append(swapped(random, calls) if seed % 3 else calls)
    lines = "\n".join(map(to_json, histories))
    asked = subprocess.run([porcupine], input=lines, capture_output=True, text=True, check=True, timeout=300)
    theirs = [json.loads(line) for line in asked.stdout.splitlines()]
    ours = [check(calls).linearizable for calls in histories]
    assert theirs == ours
    assert 50 < ours.count(False) < 350
