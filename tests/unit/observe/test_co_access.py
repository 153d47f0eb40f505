from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pandas as pd

from foreshard.model import CO_ACCESS_COLUMNS
from foreshard.observe import engines
from foreshard.observe.pairs.co_access import CoAccessRules, co_access
from foreshard.observe.pairs.pair_sums import sum_hours, unite
from foreshard.settings import ObserveSettings

HOUR = datetime(2014, 11, 20, 8, tzinfo=UTC)
RULES = CoAccessRules.of(ObserveSettings())
LOOSE = replace(RULES, maximum_keys=1000)

Access = tuple[float, str, str | None, str | None]


def frame_of(accesses: list[Access]) -> pd.DataFrame:
    """(minutes after HOUR, key, user, session)."""
    frame = pd.DataFrame(accesses, columns=["minutes", "partitionable_key", "user_id", "session_id"])
    for name in ("partitionable_key", "user_id", "session_id"):
        frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    frame["timestamp"] = pd.Timestamp(HOUR) + pd.to_timedelta(frame.pop("minutes").astype("float64"), unit="min")
    return frame


def weights(frame: pd.DataFrame) -> dict[tuple[int, str, str], tuple[int, int]]:
    hours = ((frame["hour"] - pd.Timestamp(HOUR)) / pd.Timedelta(hours=1)).astype(int)
    return {
        (hour, row.key_a, row.key_b): (row.weight, row.distinct_users)
        for hour, row in zip(hours, frame.itertuples(index=False), strict=True)
    }


def by_hand(accesses: list[Access]) -> dict[tuple[int, str, str], tuple[int, int]]:
    """The reference: the definition applied group by group."""
    groups: dict = defaultdict(dict)
    users: dict = defaultdict(dict)
    for minutes, key, user, session in sorted(accesses, key=lambda access: access[0]):
        if session:
            name, unit = ("s", session), int(minutes // 60)
        elif user:
            name, unit = ("u", user), int(minutes // 2.5)
        else:
            continue
        groups[(name, unit)].setdefault(key, True)
        groups[(name, unit + 1)][key] = False
        if user:
            users[(name, unit)].setdefault("now", user)
            users[(name, unit + 1)].setdefault("before", user)
    found: dict = defaultdict(lambda: [0, set()])
    for (name, unit), keys in groups.items():
        known = users[(name, unit)]
        hour = unit if name[0] == "s" else unit // 24
        for a, b in combinations(sorted(keys), 2):
            if keys[a] or keys[b]:
                found[(hour, a, b)][0] += 1
                found[(hour, a, b)][1] |= {known.get("now", known.get("before"))} - {None}
    return {pair: (weight, len(those)) for pair, (weight, those) in found.items()}


def test_a_session_pairs_its_keys_once_however_often_it_touches_them() -> None:
    found = co_access(frame_of([(1, "b", "u", "s"), (30, "a", "u", "s"), (40, "b", "u", "s")]), LOOSE)
    assert tuple(found.columns) == CO_ACCESS_COLUMNS
    assert weights(found) == {(0, "a", "b"): (1, 1)}


def test_a_session_across_the_hour_counts_only_in_the_later_hour() -> None:
    assert weights(co_access(frame_of([(59, "a", "u", "s"), (61, "b", "u", "s")]), LOOSE)) == {(1, "a", "b"): (1, 1)}
    assert weights(co_access(frame_of([(1, "a", "u", "s"), (59, "b", "u", "s"), (61, "b", "u", "s")]), LOOSE)) == {
        (0, "a", "b"): (1, 1)
    }


def test_counting_hour_by_hour_equals_counting_all_hours_at_once() -> None:
    accesses = [(m * 7.3 % 180, "abcdef"[m % 6], f"u{m % 5}", f"s{m % 4}" if m % 3 else None) for m in range(120)]
    frame = frame_of(accesses).sort_values("timestamp", ignore_index=True)
    at_once = co_access(frame, LOOSE)
    pieces = []
    for number in range(3):
        hour = pd.Timestamp(HOUR) + pd.Timedelta(hours=number)
        seen = frame[(frame["timestamp"] >= hour - pd.Timedelta(hours=1)) & (frame["timestamp"] < hour + pd.Timedelta(hours=1))]
        pieces.append(co_access(seen, LOOSE, since=hour.to_pydatetime()))
    assert weights(pd.concat(pieces)) == weights(at_once)
    assert sum_hours(pd.concat(pieces), 1).equals(sum_hours(at_once, 1))


def test_without_sessions_only_keys_within_minutes_are_paired() -> None:
    near = co_access(frame_of([(1, "a", "u", None), (3, "b", "u", None)]), LOOSE)
    far = co_access(frame_of([(1, "a", "u", None), (6.1, "b", "u", None)]), LOOSE)
    assert weights(near) == {(0, "a", "b"): (1, 1)}
    assert far.empty


def test_accesses_without_user_and_session_are_not_one_user() -> None:
    assert co_access(frame_of([(1, "a", None, None), (1, "b", None, None)]), LOOSE).empty


def test_a_session_without_a_user_adds_weight_but_no_user() -> None:
    assert weights(co_access(frame_of([(1, "a", None, "s"), (2, "b", None, "s")]), LOOSE)) == {(0, "a", "b"): (1, 0)}


def test_the_cap_limits_the_pairs_of_a_crawler() -> None:
    crawl = [(number / 1000, f"k{number}", "bot", "s") for number in range(10_000)]
    found = co_access(frame_of(crawl), replace(RULES, maximum_keys=50))
    assert len(found) == 50 * 49 // 2
    assert "k9999" in set(found["key_b"])


def test_only_the_heaviest_pairs_of_an_hour_are_kept() -> None:
    accesses = [(1, key, "u", f"s{n}") for n in range(3) for key in "ab"] + [(1, key, "u", "t") for key in "cd"]
    found = co_access(frame_of(accesses), replace(RULES, maximum_pairs=1))
    assert weights(found) == {(0, "a", "b"): (3, 1)}


def test_pairing_in_pieces_gives_the_same_result(monkeypatch) -> None:
    accesses = [(m * 7.3 % 180, "abcdefgh"[m % 8], f"u{m % 5}", f"s{m % 9}") for m in range(200)]
    at_once = co_access(frame_of(accesses), LOOSE)
    monkeypatch.setattr(engines, "RECORDS_OF_A_PART", 7)
    assert weights(co_access(frame_of(accesses), LOOSE)) == weights(at_once)


def visits(users: list[str], hour: int, key: str = "b") -> list[Access]:
    return [
        access for u in users for access in ((60 * hour + 1, "a", u, f"{u}/{hour}"), (60 * hour + 2, key, u, f"{u}/{hour}"))
    ]


def test_pairs_need_the_minimum_of_distinct_users_over_all_hours() -> None:
    hourly = co_access(frame_of(visits(["u1", "u2", "u3"], 0) + visits(["u3", "u4", "u5"], 1) + visits(["u1"], 1, "c")), LOOSE)
    assert sum_hours(hourly, 5).values.tolist() == [["a", "b", 6, 5]]
    assert sum_hours(hourly, 6).empty
    assert sum_hours(hourly.iloc[:0], 5).empty


def test_users_seen_in_several_hours_count_once() -> None:
    hourly = co_access(frame_of([access for hour in range(40) for access in visits(["u1", "u2"], hour)]), LOOSE)
    assert sum_hours(hourly, 1).values.tolist() == [["a", "b", 80, 2]]


def test_uniting_day_by_day_equals_uniting_all_at_once() -> None:
    hourly = co_access(frame_of([access for hour in range(6) for access in visits([f"u{hour}", "v"], hour)]), LOOSE)
    pieces = unite(hourly.iloc[:0])
    for number in range(len(hourly)):
        pieces = unite(pd.concat([pieces, hourly.iloc[[number]]], ignore_index=True))
    pd.testing.assert_frame_equal(pieces, unite(hourly))
    assert sum_hours(pieces, 7).values.tolist() == [["a", "b", 12, 7]]


def test_a_pair_with_more_users_than_marks_counts_at_least_the_busiest_hours_users() -> None:
    hourly = co_access(frame_of(visits([f"u{n}" for n in range(40)], 0)), LOOSE)
    assert len(hourly["user_marks"].iloc[0]) == 16
    assert sum_hours(hourly, 5)["distinct_users"].tolist() == [40]


def test_marks_of_one_user_differ_between_pairs() -> None:
    found = co_access(frame_of([(1, key, "u", "s") for key in "abcd"]), LOOSE)
    marks = [mark for row in found["user_marks"] for mark in row]
    assert len(set(marks)) == len(found) == 6
    assert all(0 <= mark < 2**31 for mark in marks)


def test_keys_with_odd_characters_keep_them_and_their_order() -> None:
    found = co_access(frame_of([(1, key, "u", "s") for key in ("Zürich", "a.b$c", "\x00", "日本")]), LOOSE)
    assert all(row.key_a < row.key_b for row in found.itertuples())
    assert len(found) == 6


def test_an_hour_without_accesses_has_no_pairs_and_the_right_types() -> None:
    found = co_access(frame_of([]), LOOSE)
    assert found.empty
    assert str(found["hour"].dtype) == "datetime64[ns, UTC]"
    assert timedelta(minutes=5) == LOOSE.window
