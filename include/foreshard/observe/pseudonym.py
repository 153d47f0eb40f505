"""Pseudonyms of users: HMAC-SHA256 under a secret key, made at the first hop, so that raw ids are never stored.

A pseudonym is ``h1:`` and 128 bits in hex; ``h1`` names the scheme. Making a pseudonym of a pseudonym gives it back, so a
record may pass through here more than once. Apps import this module: it needs neither numpy nor pandas until a column is given.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "h1:"
_DIGITS = 32
_PSEUDONYM = re.compile(rf"{PREFIX}[0-9a-f]{{{_DIGITS}}}")


def is_pseudonym(user: str) -> bool:
    """Whether ``user`` has the form of a pseudonym."""
    return _PSEUDONYM.fullmatch(user) is not None


def pseudonym(key: bytes, user: str) -> str:
    """The pseudonym of ``user`` under ``key``; the same user gets the same one, and without the key it leads nowhere."""
    if is_pseudonym(user):
        return user
    return PREFIX + hmac.new(key, user.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:_DIGITS]


def pseudonymise(users: pd.Series[str], key: Callable[[], bytes]) -> pd.Series[str]:
    """A column of user ids (text or None) as pseudonyms; each distinct user is hashed once.

    ``key`` is asked for the secret only where there is a raw id, so that a log that came pseudonymised needs no secret here.
    """
    import pandas as pd

    codes, names = pd.factorize(users.astype(object), use_na_sentinel=True)
    secret = key() if any(not is_pseudonym(name) for name in names) else b""
    made = pd.Series([*(pseudonym(secret, name) for name in names), None], dtype=object)
    return pd.Series(made.to_numpy()[codes], index=users.index, name=users.name, dtype=object)
