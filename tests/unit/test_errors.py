import copy

import pytest

from foreshard.errors import CorruptLog, ForeshardError, MissingSecret, UnknownPartition

ERRORS = [
    CorruptLog("log.csv", "it can't be read"),
    MissingSecret("FORESHARD_KEY", "signs"),
    UnknownPartition("p9", ["b", "a"]),
    ForeshardError("plain"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_from_another_process_with_its_line_and_its_fields(error):
    again = copy.copy(error)  # by what it says of itself, as another process makes it anew
    assert again is not error
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
