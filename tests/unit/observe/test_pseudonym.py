import subprocess
import sys

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from foreshard.observe.pseudonym import is_pseudonym, pseudonym, pseudonymise

KEY = b"a secret of the tests"


def never() -> bytes:
    raise AssertionError("the secret was asked for")


def test_a_pseudonym_is_the_start_of_the_hmac_of_rfc_4231() -> None:
    assert pseudonym(b"Jefe", "what do ya want for nothing?") == "h1:5bdcc146bf60754e6a042426089575c7"


@given(st.text())
def test_a_pseudonym_of_a_pseudonym_is_itself_and_never_shows_the_user(user: str) -> None:
    hidden = pseudonym(KEY, user)
    assert is_pseudonym(hidden)
    assert pseudonym(KEY, hidden) == hidden
    assert pseudonym(b"another secret", hidden) == hidden


def test_text_that_only_resembles_a_pseudonym_is_hashed() -> None:
    for user in ("h1:", "h1:xyz", "h1:" + "A" * 32, "h1:" + "a" * 31, "h1:" + "a" * 33, "h1:" + "a" * 32 + "\n"):
        assert pseudonym(KEY, user) != user


def test_different_keys_give_different_pseudonyms() -> None:
    assert pseudonym(b"one", "ann") != pseudonym(b"two", "ann")


def test_a_column_keeps_its_missing_users_and_its_index() -> None:
    users = pd.Series(["ann", None, "bob", "ann", pseudonym(KEY, "carl")], index=[5, 6, 7, 8, 9], dtype=object)
    made = pseudonymise(users, lambda: KEY)
    assert list(made.index) == [5, 6, 7, 8, 9]
    assert made.isna().tolist() == [False, True, False, False, False]
    assert made[5] == made[8] == pseudonym(KEY, "ann")
    assert made[9] == pseudonym(KEY, "carl")


def test_the_secret_is_not_read_if_every_user_is_a_pseudonym() -> None:
    users = pd.Series([pseudonym(KEY, "ann"), None], dtype=object)
    assert pseudonymise(users, never).tolist() == users.tolist()
    assert pseudonymise(pd.Series([], dtype=object), never).tolist() == []


def test_importing_the_module_imports_neither_numpy_nor_pandas() -> None:
    code = "import sys, foreshard.observe.pseudonym; sys.exit('pandas' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
