"""The hour argument of the commands."""

from __future__ import annotations

from datetime import UTC, datetime

import click


class HourType(click.ParamType[datetime]):
    """A UTC hour in ISO 8601, as in Airflow's partition keys: 2014-11-20T08 or 2014-11-20T08:00:00Z."""

    name = "hour"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read the hour. Refuse text that is not a time, and a time within an hour."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not an hour; write it as 2014-11-20T08", param, ctx)
        aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if (aware.minute, aware.second, aware.microsecond) != (0, 0, 0):
            self.fail(f"{value!r} is not the start of an hour; use {aware:%Y-%m-%dT%H}", param, ctx)
        return aware


HOUR = HourType()
