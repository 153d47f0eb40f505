import hmac
import subprocess
import sys

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from foreshard.observe.pseudonym import SESSION, is_pseudonym, key_name, pseudonym, pseudonymise

KEY = b"a secret of the tests"


def never() -> bytes:
    raise AssertionError("the secret was asked for")


def test_a_pseudonym_is_the_start_of_the_hmac_of_rfc_4231_behind_the_name_of_its_key() -> None:
    made = pseudonym(b"Jefe", "what do ya want for nothing?")
    assert made.startswith(f"h2:{key_name(b'Jefe')}:5bdcc146bf60754e6a042426089575c7")
    assert is_pseudonym(made)


@given(st.binary(min_size=1, max_size=150), st.text())
def test_the_digest_is_the_hmac_of_any_key(key: bytes, user: str) -> None:
    expected = hmac.digest(key, user.encode("utf-8", "surrogatepass"), "sha256")[:16].hex()
    assert pseudonym(key, user).split(":")[2].startswith(expected)


@given(st.text())
def test_a_pseudonym_of_a_pseudonym_is_itself_and_never_shows_the_user(user: str) -> None:
    hidden = pseudonym(KEY, user)
    assert is_pseudonym(hidden)
    assert pseudonym(KEY, hidden) == pseudonym(KEY, hidden, SESSION) == hidden


def test_only_what_this_key_made_passes() -> None:
    hidden = pseudonym(KEY, "ann")
    forged = f"h2:{key_name(KEY)}:{'0' * 40}"
    for user in (forged, hidden[:-1] + "fe"[hidden[-1] == "f"], "h1:" + "a" * 32, pseudonym(b"another secret", "ann")):
        assert pseudonym(KEY, user) not in (user, hidden)


def test_a_session_and_a_user_of_one_id_have_different_pseudonyms() -> None:
    assert pseudonym(KEY, "17") != pseudonym(KEY, "17", SESSION)


def test_text_that_only_resembles_a_pseudonym_is_hashed() -> None:
    start = f"h2:{key_name(KEY)}:"
    for user in ("h2:", "h2:xyz", start + "A" * 40, start + "a" * 39, start + "a" * 41, start + "a" * 40 + "\n"):
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


def test_the_secret_is_not_read_without_a_user() -> None:
    assert pseudonymise(pd.Series([None, None], dtype=object), never).tolist() == [None, None]
    assert pseudonymise(pd.Series([], dtype=object), never).tolist() == []


def test_importing_the_module_imports_neither_numpy_nor_pandas() -> None:
    code = "import sys, foreshard.observe.pseudonym; sys.exit('pandas' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
