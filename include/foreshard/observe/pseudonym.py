"""Pseudonyms of users and sessions: HMAC-SHA256 with a secret key, at the first hop, so that raw ids are never stored.

A pseudonym is ``h2:KEY:DIGEST``. ``h2`` names the scheme. ``KEY`` (8 hex digits) names the secret key, so that a changed key
can be seen. ``DIGEST`` is 128 bits of the HMAC and a keyed check (BLAKE2s) of 32 bits, in hex. Only the owner of the key can
make the check. A pseudonym of the same key is therefore known and stays itself, and a text that only has its form is hashed
like any other id.
Apps import this module, so it imports pandas only for columns.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "h2:"
_DIGEST_BYTES, _CHECK_BYTES, _KEY_BYTES = 16, 4, 4
_HEX = 2 * (_DIGEST_BYTES + _CHECK_BYTES)
_BLOCK_BYTES = 64
PATTERN = rf"{PREFIX}[0-9a-f]{{{2 * _KEY_BYTES}}}:[0-9a-f]{{{_HEX}}}"
"""A regular expression of the form of a pseudonym."""
_PSEUDONYM = re.compile(PATTERN)
USER, SESSION = b"", b"session\0"
"""What an id names. A user and a session with the same id have different pseudonyms."""


def is_pseudonym(name: str) -> bool:
    """Return whether ``name`` has the form of a pseudonym, of any key."""
    return _PSEUDONYM.fullmatch(name) is not None


def pseudonym(key: bytes, name: str, of: bytes = USER) -> str:
    """Return the pseudonym of a user or a session. It cannot be computed or reversed without ``key``."""
    return pseudonyms(lambda: key, [name], of)[0]


def key_name(key: bytes) -> str:
    """Return the name of a secret key in its pseudonyms. It says nothing about the key."""
    return hmac.digest(key, b"\0key", "sha256")[:_KEY_BYTES].hex()


def pseudonyms(key: Callable[[], bytes], names: Sequence[str], of: bytes = USER) -> list[str]:
    """Return the pseudonym of each name. ``key`` is called only if there is a name."""
    if not names:
        return []
    secret = key()
    start = f"{PREFIX}{key_name(secret)}:"
    keyed = _Keyed.of(secret)
    known = {name for name in names if name.startswith(start) and _made_by(keyed, name, len(start))}
    if known:
        return [name if name in known else start + b"".join(_digests(keyed, [name], of)).hex() for name in names]
    digests = b"".join(_digests(keyed, names, of)).hex()
    return [start + digests[at : at + _HEX] for at in range(0, len(digests), _HEX)]


def pseudonymise(names: pd.Series[str], key: Callable[[], bytes], of: bytes = USER) -> pd.Series[str]:
    """Pseudonymise a column of ids (text or None). Each distinct id is hashed once; ``key`` is called only if there is one."""
    import pandas as pd

    from foreshard.observe.factorising import factorised

    codes, distinct = factorised(names.astype(object))
    made = pd.Series([*pseudonyms(key, list(distinct), of), None], dtype=object)
    return pd.Series(made.to_numpy()[codes], index=names.index, name=names.name, dtype=object)


@dataclass(frozen=True)
class _Keyed:
    """The hashes, started with the key: both of the HMAC (RFC 2104), and the check. Copying one is faster than starting it."""

    inner: hashlib._Hash
    outer: hashlib._Hash
    check: hashlib.blake2s

    @classmethod
    def of(cls, key: bytes) -> _Keyed:
        check = hashlib.blake2s(key=hmac.digest(key, b"\0check", "sha256"), digest_size=_CHECK_BYTES)
        block = (key if len(key) <= _BLOCK_BYTES else hashlib.sha256(key).digest()).ljust(_BLOCK_BYTES, b"\0")
        inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))
        return cls(inner, outer, check)


def _digests(keyed: _Keyed, names: Iterable[str], of: bytes) -> Iterator[bytes]:
    """Yield the digest and the check of each name. The loop is the cost of the first hop, so it calls nothing of ours."""
    inner_copy, outer_copy, check_copy = keyed.inner.copy, keyed.outer.copy, keyed.check.copy
    for name in names:
        inner, outer, check = inner_copy(), outer_copy(), check_copy()
        inner.update(of + name.encode("utf-8", "surrogatepass"))
        outer.update(inner.digest())
        digest = outer.digest()[:_DIGEST_BYTES]
        check.update(digest)
        yield digest + check.digest()


def _check(keyed: _Keyed, digest: bytes) -> str:
    checked = keyed.check.copy()
    checked.update(digest)
    return checked.hexdigest()


def _made_by(keyed: _Keyed, name: str, start: int) -> bool:
    """Return whether a name with the start of a pseudonym was made with this key."""
    if not is_pseudonym(name):
        return False
    end = start + 2 * _DIGEST_BYTES
    return hmac.compare_digest(name[end:], _check(keyed, bytes.fromhex(name[start:end])))
