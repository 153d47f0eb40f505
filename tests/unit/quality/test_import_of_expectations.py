"""Great Expectations is imported once per process, without the garbage collector."""

from __future__ import annotations

import builtins
import gc

import pytest

from foreshard.quality._runner import load_great_expectations


@pytest.mark.parametrize("fails", [False, True])
def test_the_garbage_collector_is_paused_while_great_expectations_is_imported_only(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    real, seen = builtins.__import__, []

    def watched(name: str, *rest: object, **named: object) -> object:
        if name.startswith("great_expectations"):
            seen.append(gc.isenabled())
            if fails:
                raise ImportError(name)
        return real(name, *rest, **named)

    assert gc.isenabled()
    monkeypatch.setattr(builtins, "__import__", watched)
    if fails:
        with pytest.raises(ImportError):
            load_great_expectations()
    else:
        load_great_expectations()
    assert seen
    assert not any(seen)
    assert gc.isenabled()
