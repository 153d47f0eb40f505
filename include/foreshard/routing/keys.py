"""Which strings can be partitionable keys. Pure."""

from __future__ import annotations

from typing import NamedTuple

LONGEST_KEY = 4_096
"""Bytes of UTF-8."""


class KeyProblem(NamedTuple):
    """Why a value can't be a key: a code for machines, and a phrase that follows the key's name."""

    code: str
    phrase: str


def key_problem(key: object) -> KeyProblem | None:
    """Return the problem with ``key``; None if the key is valid."""
    if not isinstance(key, str):
        return KeyProblem("invalid-key", "is not a string; send keys as strings")
    if not key:
        return KeyProblem("empty-key", "is empty; name the partitionable key")
    if len(key) > LONGEST_KEY // 4 and len(key.encode("utf-8", "surrogatepass")) > LONGEST_KEY:
        return KeyProblem("key-too-long", f"is longer than {LONGEST_KEY} bytes; shorten it")
    if "\0" in key:
        return KeyProblem("invalid-key", "contains a NUL character; remove it")
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            return KeyProblem("invalid-key", "contains half of a surrogate pair; send valid Unicode")
    return None
