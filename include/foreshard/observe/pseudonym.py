"""Pseudonyms of users: HMAC-SHA256 with a secret key, applied at the first hop, so that raw ids are never stored.

A pseudonym is ``h1:`` and 128 bits in hex; ``h1`` names the scheme. The pseudonym of a pseudonym is itself, so records may be
pseudonymised twice. Apps import this module, so it imports numpy and pandas only for columns.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "h1:"
_DIGITS = 32
PATTERN = rf"{PREFIX}[0-9a-f]{{{_DIGITS}}}"
"""A regular expression of the form of a pseudonym."""
_PSEUDONYM = re.compile(PATTERN)


def is_pseudonym(user: str) -> bool:
    """Return whether ``user`` has the form of a pseudonym."""
    return _PSEUDONYM.fullmatch(user) is not None


def pseudonym(key: bytes, user: str) -> str:
    """Return the pseudonym of ``user``. It is the same each time, and cannot be computed or reversed without ``key``."""
    if is_pseudonym(user):
        return user
    return PREFIX + hmac.digest(key, user.encode("utf-8", "surrogatepass"), "sha256").hex()[:_DIGITS]


def pseudonyms(key: Callable[[], bytes], users: Sequence[str]) -> list[str]:
    """Return the pseudonym of each of ``users``. ``key`` is called only if there is a raw id."""
    raw = [not (user.startswith(PREFIX) and is_pseudonym(user)) for user in users]
    if not any(raw):
        return list(users)
    keyed = hmac.new(key(), digestmod="sha256")  # copying it takes half the time of starting again with the key
    made = []
    for user, hide in zip(users, raw, strict=True):
        if hide:
            digest = keyed.copy()
            digest.update(user.encode("utf-8", "surrogatepass"))
        made.append(PREFIX + digest.hexdigest()[:_DIGITS] if hide else user)
    return made


def pseudonymise(users: pd.Series[str], key: Callable[[], bytes]) -> pd.Series[str]:
    """Pseudonymise a column of user ids (text or None). Each distinct user is hashed once.

    ``key`` is called only if there is a raw id, so a pseudonymised log needs no secret.
    """
    import pandas as pd

    codes, names = pd.factorize(users.astype(object), use_na_sentinel=True)
    made = pd.Series([*pseudonyms(key, list(names)), None], dtype=object)
    return pd.Series(made.to_numpy()[codes], index=users.index, name=users.name, dtype=object)
