from datetime import UTC, datetime

import click
import pytest

from foreshard.cli.arguments.hours import HOUR

EIGHT = datetime(2014, 11, 20, 8, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2014-11-20T08", "2014-11-20T08:00:00", "2014-11-20T08:00Z", "2014-11-20T09:00:00+01:00"])
def test_an_hour_is_parsed_in_the_forms_of_people_and_airflow(text: str) -> None:
    assert HOUR.convert(text, None, None) == EIGHT


@pytest.mark.parametrize(
    ("text", "said"), [("yesterday", "is not an hour"), ("2014-11-20T08:30", "is not the start of an hour; use 2014-11-20T08")]
)
def test_other_text_is_refused_with_the_right_form(text: str, said: str) -> None:
    with pytest.raises(click.BadParameter, match=said):
        HOUR.convert(text, None, None)
