"""A refused hour is accepted by a named person with a reason, and every run says where each record went."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.integration.test_observe_commands import environment, run
from tests.integration.test_observe_stage import HOUR, access, emit, history, wiring

from foreshard.errors import GateFailed, HourRefused
from foreshard.model import ONE_HOUR
from foreshard.stages.judging.acceptance import accept_result
from foreshard.stages.log_import import import_history
from foreshard.stages.observe import extract_hour, tally_hour
from foreshard.stages.observing.gate import gate_access_log
from foreshard.wiring import Wiring

__all__ = ["environment", "wiring"]

NAMED = f"{HOUR:%Y-%m-%dT%H}"


def spoil(wiring: Wiring, bad: int = 6) -> None:
    emit(wiring, [*(access(f"station {n}", record_id=str(n)) for n in range(6)), *(access("") for _ in range(bad))])


@pytest.mark.usefixtures("environment")
def test_a_refused_hour_passes_once_a_person_has_accepted_it(wiring: Wiring, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(wiring)
    code, _, err = run(capsys, "hour", NAMED)
    assert (code, "quarantined share 0.5 > 0.05 (6 of 12 records)" in err) == (1, True)
    code, out, _ = run(capsys, "accept", NAMED, "--because", "a probe sends no keys", "--by", "Ann Lee")
    assert (code, out.splitlines()[0]) == (0, "accepted: quarantined share 0.5 > 0.05 (6 of 12 records)")
    code, out, _ = run(capsys, "hour", NAMED)
    said = "warning: accepted by Ann Lee (a probe sends no keys): quarantined share 0.5 > 0.05 (6 of 12 records)"
    assert (code, said in out.splitlines()) == (0, True)
    kept = wiring.gates.load("access_log", HOUR)
    assert (kept.passed, kept.failures, kept.warnings[0]) == (True, (), said.removeprefix("warning: "))


@pytest.mark.usefixtures("environment")
def test_an_hour_is_accepted_only_with_a_reason_and_a_name(wiring: Wiring, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(wiring)
    assert run(capsys, "hour", NAMED)[0] == 1
    for options in ([], ["--because", " "], ["--because", "I say so", "--by", " "]):
        code, out, err = run(capsys, "accept", NAMED, *options)
        assert (code, out, err.count("\n"), "only by a named person with a reason" in err) == (1, "", 1, True)
    assert wiring.gates.acceptance("access_log", HOUR) is None


def test_an_acceptance_does_not_hold_for_what_the_person_has_not_seen(wiring: Wiring) -> None:
    spoil(wiring)
    extract_hour(wiring, HOUR)
    with pytest.raises(GateFailed):
        gate_access_log(wiring, HOUR)
    accept_result(wiring, "access_log", HOUR, "Ann", "a probe sends no keys")
    gate_access_log(wiring, HOUR)
    emit(wiring, [access("") for _ in range(7)])
    extract_hour(wiring, HOUR)
    with pytest.raises(GateFailed, match="13 of 19 records"):
        gate_access_log(wiring, HOUR)


def test_an_hour_that_its_gate_passed_is_not_accepted(wiring: Wiring) -> None:
    emit(wiring, [access()])
    extract_hour(wiring, HOUR)
    gate_access_log(wiring, HOUR)
    with pytest.raises(HourRefused, match="was not refused by its gate"):
        accept_result(wiring, "access_log", HOUR, "Ann", "to be sure")


@pytest.mark.usefixtures("environment")
def test_every_run_says_where_each_record_went(wiring: Wiring, capsys: pytest.CaptureFixture[str]) -> None:
    emit(wiring, [*(access(record_id=str(n % 30)) for n in range(40)), access(request_type="poke")])
    code, out, _ = run(capsys, "hour", NAMED)
    assert (code, out.splitlines()[-1]) == (0, "41 records read = 30 tallied + 1 quarantined + 10 duplicates")


def test_records_of_an_unknown_type_are_shown_below_the_share_that_blocks(wiring: Wiring) -> None:
    emit(wiring, [*(access() for _ in range(286)), *(access(request_type="poke") for _ in range(14))])
    extract_hour(wiring, HOUR)
    warning = gate_access_log(wiring, HOUR).warnings[0]
    assert warning.startswith("14 of 300 records are quarantined and not counted: unknown_request_type; ")


def test_the_facts_of_imported_hours_are_compared_with_the_hour_that_is_observed(wiring: Wiring) -> None:
    log = history(3)
    import_history(wiring, log)
    facts = [counts.facts for counts in wiring.tallies.counts([HOUR - ONE_HOUR])]
    assert facts[0] is not None
    assert (sum(facts[0].minutes), facts[0].with_user, facts[0].cost, facts[0].repeated) == (60, 60, 120.0, 1)
    last = log[log["timestamp"] >= pd.Timestamp(HOUR - ONE_HOUR)]
    again = [
        {**row, "timestamp": (row["timestamp"] + ONE_HOUR).isoformat(), "session_id": str(row["session_id"])}
        for row in last.to_dict("records")
    ]
    emit(wiring, again)
    extract_hour(wiring, HOUR)
    with pytest.raises(GateFailed, match=f"the records are those of {HOUR - ONE_HOUR:%Y-%m-%dT%HZ} again"):
        gate_access_log(wiring, HOUR)
    tally_hour(wiring, HOUR)


@pytest.mark.usefixtures("environment")
def test_an_import_says_where_each_record_went_those_of_the_open_hour_too(
    wiring: Wiring, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = history(2).assign(record_id=[str(n % 118) for n in range(120)])
    log.loc[5, "request_type"] = "poke"
    now = log[:1].assign(timestamp=pd.Timestamp.now("UTC"), record_id="now")
    pd.concat([log, now]).to_csv(tmp_path / "log.csv", index=False)
    code, out, _ = run(capsys, "import", str(tmp_path / "log.csv"))
    assert (code, "imported 117 accesses" in out) == (0, True)
    assert "121 records read = 117 tallied + 1 quarantined + 2 duplicates + 1 outside these hours" in out.splitlines()


def spoiled_history() -> pd.DataFrame:
    """Return eight hours of which the sixth was delivered twice."""
    log = history(8)
    times = pd.to_datetime(log["timestamp"], utc=True)
    sixth = log[(times >= HOUR - 3 * ONE_HOUR) & (times < HOUR - 2 * ONE_HOUR)]
    return pd.concat([log, sixth], ignore_index=True)


@pytest.mark.usefixtures("environment")
def test_an_import_counts_no_hour_that_its_gate_refuses_until_a_person_accepts_it(
    wiring: Wiring, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.parquet"
    spoiled_history().to_parquet(log)
    bad = HOUR - 3 * ONE_HOUR
    line = "every record comes 2 times: the hour was delivered 2 times"
    code, out, _ = run(capsys, "import", str(log))
    assert (code, f"refused {bad:%Y-%m-%dT%HZ}: {line}" in out.splitlines()) == (0, True)
    assert "1 hours were refused by their gate and are not counted" in out
    assert "540 records read = 420 tallied + 0 quarantined + 0 duplicates + 120 in refused hours" in out
    assert bad not in wiring.tallies.hours(HOUR - 8 * ONE_HOUR, HOUR)
    assert wiring.gates.load("access_log", bad).failures == (line,)
    assert wiring.gates.refused("access_log", HOUR - 8 * ONE_HOUR, HOUR) == (bad,)
    code, out, _ = run(capsys, "import", str(log), "--because", "two shops write the same", "--by", "Ann Lee")
    assert (code, f"warning: {bad:%Y-%m-%dT%HZ}: accepted by Ann Lee (two shops write the same): {line}" in out) == (0, True)
    assert wiring.tallies.counts([bad])[0].accesses == 120
    code, out, _ = run(capsys, "import", str(log))
    assert (code, "refused" in out, wiring.tallies.counts([bad])[0].accesses) == (0, False, 120)


def test_an_hour_that_is_imported_again_without_its_fault_is_no_longer_refused(wiring: Wiring, tmp_path: Path) -> None:
    log = tmp_path / "log.parquet"
    spoiled_history().to_parquet(log)
    assert len(import_history(wiring, log).refused) == 1
    history(8).to_parquet(log)
    found = import_history(wiring, log)
    assert (found.refused, found.hours, found.accepted) == ((), 8, 480)
    assert wiring.gates.refused("access_log", HOUR - 8 * ONE_HOUR, HOUR) == ()


@pytest.mark.usefixtures("environment")
def test_a_refused_hour_can_be_looked_at(wiring: Wiring, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(wiring)
    assert run(capsys, "hour", NAMED)[0] == 1
    code, out, _ = run(capsys, "show", NAMED, "--keys", "2")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith(f"{HOUR:%Y-%m-%dT%HZ}: 12 records from ")
    assert lines[1:4] == ["types: checkout 6", "quarantined: missing_key 6", "most frequent keys: station 0 1, station 1 1"]
    assert lines[4].startswith("accepted in each ten minutes: ")
    assert lines[5:] == ["stops the hour: quarantined share 0.5 > 0.05 (6 of 12 records)", "the hour is not counted"]
    assert run(capsys, "accept", NAMED, "--because", "a probe sends no keys", "--by", "Ann Lee")[0] == 0
    assert "a probe sends no keys" in run(capsys, "show", NAMED)[1].splitlines()[-2]
    code, _, err = run(capsys, "show", f"{HOUR - 9 * ONE_HOUR:%Y-%m-%dT%H}")
    assert (code, "no tally for" in err) == (1, True)


def timetable(days: int) -> pd.DataFrame:
    """Return a log in which every day is the one before, to the microsecond."""
    day = history(24)
    times = pd.to_datetime(day["timestamp"], utc=True)
    return pd.concat([day.assign(timestamp=times - pd.Timedelta(days=back)) for back in range(days)], ignore_index=True)


def test_an_import_counts_a_log_that_repeats_by_schedule(wiring: Wiring) -> None:
    """On the second day that can't be known yet; its first hours are judged again once more of the log is seen."""
    found = import_history(wiring, timetable(3))
    assert (found.refused, found.hours, found.accepted) == ((), 72, 72 * 60)
    assert wiring.gates.refused("access_log", HOUR - 72 * ONE_HOUR, HOUR) == ()


def test_an_import_counts_no_hour_that_has_the_records_of_another(wiring: Wiring) -> None:
    log = history(24)
    times = pd.to_datetime(log["timestamp"], utc=True)
    again = log[(times >= HOUR - 5 * ONE_HOUR) & (times < HOUR - 4 * ONE_HOUR)]
    others = log[(times < HOUR - 2 * ONE_HOUR) | (times >= HOUR - ONE_HOUR)]
    found = import_history(wiring, pd.concat([others, again.assign(timestamp=times + 3 * ONE_HOUR)], ignore_index=True))
    assert [result.hour for result in found.refused] == [HOUR - 2 * ONE_HOUR]
