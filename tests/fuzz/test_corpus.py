"""The inputs that fuzzing has found and kept are tried again, quickly."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fuzz.targets import TARGETS, seeds

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds_and_the_kept_inputs_cause_no_failure(target):
    kept = [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]
    assert kept
    for content in (*seeds()[target], *kept):
        TARGETS[target](content)
