"""The expectations of the gate ``access_log`` that compare an hour's facts with other hours.

What would count wrongly, or move documents for nothing, stops the hour: records that come twice, a source that stopped, costs
in another unit, ten times the usual accesses. What a person should know, but what can be true, warns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from foreshard.model import HourCounts, HourFacts
from foreshard.quality._suite import Expectation, between, figure, warns
from foreshard.quality._usual import (
    ALIKE,
    DOUBTFUL,
    IMPOSSIBLE,
    MISSED_ACCESSES,
    SILENT_MINUTES,
    Band,
    band,
    longest_silence,
    same_hour,
    share_with_user,
    silent_end,
)
from foreshard.quality.before import Before

BLOCKED_FACTOR = 8.0
"""An unusual figure stops the hour from this multiple of the median on. So grows no load of a week, but a log in error."""

NOTED_SHARE = 0.005
"""The share of the hour's records from which one reason for the quarantine is shown, if there are ``NOTED_RECORDS``."""
NOTED_RECORDS = 10

DOUBTFUL_MINUTES = 5
"""A shorter silence at the hour's end says nothing: records may be late by some minutes."""

MINIMUM_USER_SHARE = 0.1
"""The share of the usual share of records with a user, below which users are missing."""

_STOPPED = "has the log's source stopped?"
_REMEDIES: dict[str, str] = {"unknown_request_type": "; foreshard observe check names the types"}
_Valued = tuple[float, Expectation]


def expectations(
    found: HourCounts,
    quarantined: Mapping[str, int],
    usual: Sequence[HourCounts],
    days: Sequence[HourCounts],
    before: Before,
    busy: int,
) -> list[_Valued]:
    """Return each expectation with the hour's value. An expectation for which too few other hours are known is left out.

    ``usual``: this hour of earlier weeks; ``days``: of the days before, both of the same source.
    Fewer than ``busy`` accesses say nothing about costs, users and repeats.
    """
    made: list[_Valued] = [*_volume(found, usual, before.others, busy), *_reasons(found.accesses, quarantined)]
    if found.facts is not None:
        silence = _silence(found.facts, usual)
        made.append(silence)
        made += _early_end(found.facts, days) if silence[0] <= MISSED_ACCESSES else ()
    if found.facts is not None and found.accesses >= busy:
        made += [*_costs(found, found.facts, usual), *_users(found, found.facts, usual)]
        made += [_repeated(found.facts), *_duplicated(found, [*before.others, *before.besides])]
    return made


def _volume(found: HourCounts, usual: Sequence[HourCounts], others: Sequence[HourCounts], busy: int) -> Iterator[_Valued]:
    counts = [week.accesses for week in usual]
    if not counts or max(median(counts), found.accesses) < busy:
        return
    range_ = band(counts, median(counts))
    if range_ is not None:
        said = f"{found.accesses:,} accesses, {{times}} × the median of this hour in {len(counts)} earlier weeks"
        busiest = max(other.accesses for other in (*usual, *others))
        far = math.inf if busiest < busy else float(busiest)
        yield from _in_band("accesses", found.accesses, range_, said, block_low=False, at_least=far)


def _costs(found: HourCounts, facts: HourFacts, usual: Sequence[HourCounts]) -> Iterator[_Valued]:
    means = [week.facts.cost / week.accesses for week in usual if week.facts and week.accesses and week.facts.cost > 0]
    range_ = band(means)
    if range_ is not None and range_.middle > 0:
        mean = facts.cost / found.accesses
        said = f"the cost of an access is {figure(mean)}, {{times}} × that of earlier weeks; is it in another unit?"
        yield from _in_band("cost_of_an_access", mean, range_, said, block_low=True)


def _in_band(name: str, value: float, usual: Band, said: str, block_low: bool, at_least: float = 0.0) -> Iterator[_Valued]:
    """Yield what warns outside the band, and what blocks outside it and beyond ``BLOCKED_FACTOR``.

    No value up to ``at_least`` blocks for being high: a quiet hour may have what other hours have.
    """
    line = said.replace("{times}", figure(value / usual.middle))
    what = name.replace("_", " ")
    claim = f"the usual {what}: {figure(usual.low)} … {figure(usual.high)}"
    high = max(usual.high, BLOCKED_FACTOR * usual.middle, at_least)
    low = min(usual.low, usual.middle / BLOCKED_FACTOR) if block_low else None
    far = value > high or (low is not None and value < low)
    if not far:
        yield value, warns(between(name, usual.low, usual.high, claim, f"{line} (usual: {claim.split(': ')[1]})"))
    if math.isinf(high):
        return
    bounds = f"at most {figure(high)}" if low is None else f"{figure(low)} … {figure(high)}"
    yield value, between(f"far_{name}", low, high, f"{what}: {bounds}", f"{line} (limit: {bounds})")


def _reasons(accepted: int, quarantined: Mapping[str, int]) -> Iterator[_Valued]:
    """Yield a warning for each reason that quarantines more than a few records."""
    records = accepted + sum(quarantined.values())
    for place, (reason, bad) in enumerate(sorted(quarantined.items())):
        if reason and bad:
            most = max(NOTED_SHARE * records, NOTED_RECORDS - 1)
            failure = f"{bad:,} of {records:,} records are quarantined and not counted: {reason}{_REMEDIES.get(reason, '')}"
            claim = f"at most {figure(most)} records are quarantined for one reason"
            yield float(bad), warns(between(f"quarantined_{place}", 0, most, claim, failure))


def _silence(facts: HourFacts, usual: Sequence[HourCounts]) -> _Valued:
    silence = longest_silence(facts.minutes, usual)
    missed = silence.expected / silence.clump if silence.minutes >= SILENT_MINUTES else 0.0
    expected = f"where {figure(round(silence.expected))} were expected"
    if silence.to_the_end:
        failure = f"no access after minute {silence.first}, {expected}; {_STOPPED}"
    else:
        failure = f"no access from minute {silence.first} for {silence.minutes} minutes, {expected}"
    made = between("missed_in_silence", None, MISSED_ACCESSES, "no long silence in the hour", failure)
    return missed, made if silence.to_the_end and silence.learned else warns(made)


def _early_end(facts: HourFacts, days: Sequence[HourCounts]) -> Iterator[_Valued]:
    """Judge an hour that ends in silence by its own accesses: a small hour that stops at half past is found as well."""
    end = silent_end(facts.minutes, days)
    silent = 60 - end.first if end else 0
    if end is None or silent < DOUBTFUL_MINUTES:
        return
    chance = f"by chance, that happens in one of {10 ** min(-end.chance, 12):,.0f} hours"
    failure = f"no access after minute {end.first}, although {sum(facts.minutes):,} came before; {chance}"
    stops = silent >= SILENT_MINUTES and end.chance < IMPOSSIBLE
    limit = IMPOSSIBLE if stops else DOUBTFUL
    made = between("chance_of_the_silent_end", limit, None, "the hour does not end too early", f"{failure}; {_STOPPED}")
    yield end.chance, made if stops else warns(made)


def _users(found: HourCounts, facts: HourFacts, usual: Sequence[HourCounts]) -> Iterator[_Valued]:
    usually = share_with_user(usual)
    if usually > 0:
        share = facts.with_user / found.accesses
        least = MINIMUM_USER_SHARE * usually
        failure = f"{figure(share)} of the records have a user, in earlier weeks {figure(usually)}; co-access can't be found"
        yield (
            share,
            warns(between("share_with_user", least, None, f"at least {figure(least)} of the records have a user", failure)),
        )


def _repeated(facts: HourFacts) -> _Valued:
    failure = f"every record comes {facts.repeated} times: the hour was delivered {facts.repeated} times"
    return float(facts.repeated), between("repeated", 1, 1, "the records are not all repeated", failure)


def _duplicated(found: HourCounts, others: Sequence[HourCounts]) -> Iterator[_Valued]:
    same = same_hour(found, others)
    if same is not None:
        other, share = same
        failure = f"the records are those of {other.hour:%Y-%m-%dT%HZ} again (about {100 * share:.0f} % are the same)"
        yield share, between("share_of_another_hour", None, ALIKE, "no other hour has the same records", failure)
