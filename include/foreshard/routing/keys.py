"""Which strings can be partitionable keys. Pure."""

from __future__ import annotations

from typing import NamedTuple

from foreshard.errors import InvalidKey
from foreshard.model.key_space import SLOT_MARK, KeyType, UnusableKey, canonical_key

LONGEST_KEY = 4_096
"""Bytes of UTF-8."""


class KeyProblem(NamedTuple):
    """Why a value can't be a key: a code for machines, and a phrase that follows the key's name."""

    code: str
    phrase: str


def key_problem(key: object, key_type: KeyType = KeyType.STRING) -> KeyProblem | None:
    """Return the problem with ``key``; None if the text is a key of this type, perhaps not in its canonical form."""
    if not isinstance(key, str):
        return KeyProblem("invalid-key", "is not a string; send keys as strings")
    if not key:
        return KeyProblem("empty-key", "is empty; name the partitionable key")
    if len(key) > LONGEST_KEY // 4 and len(key.encode("utf-8", "surrogatepass")) > LONGEST_KEY:
        return KeyProblem("key-too-long", f"is longer than {LONGEST_KEY} bytes; shorten it")
    if "\0" in key:
        return KeyProblem("invalid-key", "contains a NUL character; remove it")
    if key.startswith(SLOT_MARK):
        return KeyProblem("invalid-key", "begins with the control character U+001F, which marks slots; remove it")
    if key_type is not KeyType.STRING:
        try:
            canonical_key(key, key_type)
        except UnusableKey as problem:
            return KeyProblem("invalid-key", str(problem))
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            return KeyProblem("invalid-key", "contains half of a surrogate pair; send valid Unicode")
    return None


def parsed_key(text: str, key_type: KeyType) -> str:
    """Return the canonical text of a key. Raise :class:`InvalidKey`."""
    problem = key_problem(text, key_type)
    if problem is not None:
        raise InvalidKey(text, problem.phrase)
    return canonical_key(text, key_type)
