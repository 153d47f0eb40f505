"""Counts accesses per hour × key × location × request type, as lazy expressions that any engine runs.

The sum of measured costs is exact, and rounded once. So it has the same bytes in any order of the records, on any number of
machines. A cost is added as whole numbers, its *limbs*, of 30 bits each, down to 2⁻⁹⁰.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from foreshard.model import KEY_LOAD_COLUMNS
from foreshard.observe.engines import CODE, HOUR_US, MOMENT, NAME, hours_of
from foreshard.observe.packing import Packing, nullable

if TYPE_CHECKING:
    from foreshard.observe.engines import CodedRecords, FrameEngine, LazyRecords

TALLIED = ("partitionable_key", "location", "request_type", "user_id", "cost")
"""The columns of records that a tally of one hour needs."""

CELL_TEXTS = ("partitionable_key", "location", "request_type")
_CELL = ("hour", *CELL_TEXTS)
_LIMB_BITS = 30
_LIMBS = (30, 0, -30, -60, -90)
"""The powers of two of the limbs' units."""
_LARGEST = 2.0**60
"""Larger costs are added one by one."""


def tally(records: CodedRecords, engine: FrameEngine, weights: Mapping[str, float]) -> pd.DataFrame:
    """Count clean records: rows with ``KEY_LOAD_COLUMNS``, in no particular order, with categorical texts.

    ``records`` have ``MOMENT``, ``cost``, and codes of ``user_id`` and the texts of a row; each has a location. The cost of an
    access is the measured one, or the weight of its request type. A missing user is not counted.
    """
    rows = records.rows.with_columns(hour=nw.col(MOMENT) // HOUR_US)
    costs = rows.select(number=nw.col("cost").count(), largest=nw.col("cost").max())
    measured, largest = (column[0].as_py() for column in engine.table(costs))
    parts = engine.split(rows, nw.col("user_id").fill_null(0), records.parts)  # the users of a cell add up over such parts
    cells = _summed([_cells(part, records, bool(measured)) for part in parts], engine)
    found = engine.table(_with_names(cells, records)).to_pandas()
    if found.empty:
        return empty_key_load()
    cost = found["count"].to_numpy() * found["request_type"].map(dict(weights)).fillna(0.0).to_numpy(np.float64)
    if measured:
        huge = _huge(engine.table(_with_names(rows.filter(nw.col("cost") >= _LARGEST), records))) if largest >= _LARGEST else {}
        cost = _exact_costs(found, weights, huge)
    texts = {name: pd.Categorical(found[name]) for name in CELL_TEXTS}
    hours = pd.to_datetime(found["hour"].to_numpy(np.int64) * HOUR_US * 1000, utc=True)
    numbers = {name: found[name].to_numpy(np.int64) for name in ("count", "distinct_users")}
    return pd.DataFrame({"hour": hours, **texts, **numbers, "cost": cost})[list(KEY_LOAD_COLUMNS)]


def _summed(parts: Sequence[LazyRecords], engine: FrameEngine) -> LazyRecords:
    """Return the cells with the sums of what the parts have found. Each part is computed by itself."""
    if len(parts) == 1:
        return parts[0]
    found = nw.concat([engine.kept(part) for part in parts])
    sums = [name for name in found.collect_schema().names() if name not in _CELL]
    return found.group_by(*_CELL).agg(nw.col(*sums).sum())


def _cells(rows: LazyRecords, records: CodedRecords, measured: bool) -> LazyRecords:
    """Return the cells of ``rows`` with their counts, numbers of users, and sums of measured costs in limbs."""
    cell = Packing.of({"hour": hours_of(records), **{name: records.spans.get(name) for name in CELL_TEXTS}}, "cell")
    user = Packing.of({**cell.inner(), "user_id": nullable(records.spans.get("user_id"))}, "one")
    limbs = [nw.col(f"limb{place}").sum() for place in range(len(_LIMBS))] if measured else []
    sums = [nw.col("measured").sum(), *limbs] if measured else []
    given = user.packed(cell.packed(_with_limbs(rows) if measured else rows))
    by_user = given.group_by(*user.by).agg(
        nw.len().alias("count"), *([nw.col("cost").count().alias("measured"), *limbs] if measured else [])
    )
    users = (~nw.col("user_id").is_null()).cast(nw.Int64).sum()
    cells = user.unpacked(by_user).group_by(*cell.by).agg(nw.col("count").sum(), users.alias("distinct_users"), *sums)
    return cell.unpacked(cells)


def _with_limbs(rows: LazyRecords) -> LazyRecords:
    rows = rows.with_columns(rest=nw.when(nw.col("cost") < _LARGEST).then(nw.col("cost")))
    for place, power in enumerate(_LIMBS):
        rows = rows.with_columns((nw.col("rest") * 2.0**-power).floor().alias(f"limb{place}"))
        rows = rows.with_columns(rest=nw.col("rest") - nw.col(f"limb{place}") * 2.0**power)
    return rows.with_columns(*(nw.col(f"limb{place}").cast(nw.Int64) for place in range(len(_LIMBS))))


def _with_names(cells: LazyRecords, records: CodedRecords) -> LazyRecords:
    for name in CELL_TEXTS:
        texts = records.names[name].rename({NAME: f"{name}_{NAME}"})
        cells = cells.join(texts, left_on=name, right_on=CODE, how="left").drop(name).rename({f"{name}_{NAME}": name})
    return cells


def _exact_costs(found: pd.DataFrame, weights: Mapping[str, float], huge: Mapping[Any, int]) -> npt.NDArray[np.float64]:
    """Return the cells' costs: whole numbers of 2⁻⁹⁰, divided once."""
    unit = 2 ** -_LIMBS[-1]
    worth = {name: round(weight * unit) for name, weight in weights.items()}
    limbs = [found[f"limb{place}"].fillna(0).astype(np.int64).tolist() for place in range(len(_LIMBS))]
    cells = list(zip(*(found[name].tolist() for name in _CELL), strict=True))
    unmeasured = (found["count"] - found["measured"].fillna(0)).astype(np.int64).tolist()
    made = np.zeros(len(found))
    for row, (cell, number, *parts) in enumerate(zip(cells, unmeasured, *limbs, strict=True)):
        whole = number * worth.get(cell[3], 0) + huge.get(cell, 0)
        for part, power in zip(parts, _LIMBS, strict=True):
            whole += part << (power - _LIMBS[-1])
        made[row] = _quotient(whole, unit)
    return made


def _quotient(whole: int, unit: int) -> float:
    try:
        return whole / unit
    except OverflowError:
        return math.inf


def _huge(rows: pa.Table) -> dict[Any, int]:
    """Return the cells' sums of the costs that have no limbs."""
    sums: dict[Any, int] = {}
    columns = (rows.column(name).to_pylist() for name in (*_CELL, "cost"))
    for *cell, cost in zip(*columns, strict=True):
        sums[tuple(cell)] = sums.get(tuple(cell), 0) + int(cost) * 2 ** -_LIMBS[-1]
    return sums


def empty_key_load() -> pd.DataFrame:
    """No rows, with ``KEY_LOAD_COLUMNS`` and their types."""
    types = {"hour": "datetime64[ns, UTC]", "count": "int64", "cost": "float64", "distinct_users": "int64"}
    return pd.DataFrame({name: pd.Series(dtype=types.get(name, "object")) for name in KEY_LOAD_COLUMNS})
