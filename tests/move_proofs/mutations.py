"""Remove one safeguard of moves at a time, and show that a test fails: ``python -m tests.move_proofs.mutations [NAME…]``.

It prints a table and ends with 1 if a mutant survives.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.move_proofs.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
SIMULATED = "tests/unit/move/test_moves_simulated.py"
MODEL = "tests/move_proofs/test_model.py"
MATRIX, ZOMBIES = "tests/move_proofs/test_crash_matrix.py", "tests/move_proofs/test_zombies.py"
LATE = "tests/integration/move/test_migrate_late_changes.py"
TESTS = {
    "no_fence": (MATRIX,),
    "no_drain": (SIMULATED, MODEL, MATRIX),
    "no_verification": (SIMULATED,),
    "no_state_check": (ZOMBIES,),
    "no_lease": (ZOMBIES,),
    "no_fence_check": ("tests/move_proofs/test_safeguards.py", LATE, ZOMBIES),
    "no_owner_check": (LATE, ZOMBIES),
    "no_late_deletes": (MODEL, ZOMBIES),
}
"""Where each mutant should be found, the quickest first."""
STRIDE = "5"
FAILED = re.compile(r"^(?:FAILED|ERROR) (?:\S*/)?(\S+\.py::.*?)(?: - (.*))?$", re.MULTILINE)


def killer_of(name: str) -> str | None:
    """Return the first test that fails without a safeguard. None: all pass."""
    environment = {**os.environ, "FORESHARD_MUTANT": name, "FORESHARD_CRASH_STRIDE": STRIDE}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "-p", "tests.move_proofs.mutants"]
    files = [file for file in TESTS[name] if (ROOT / file).exists()]
    for file in files:
        done = subprocess.run([*command, file], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if found := FAILED.search(done.stdout):
            return found[1]
        if done.returncode != 0:
            return f"{file}: {done.stdout.strip().splitlines()[-1:]}"
    return None


def main(names: list[str]) -> int:
    """Print the table."""
    print("| without | what is wrong then | failing test |\n|---|---|---|")
    survivors = 0
    for name in names or list(MUTANTS):
        killer = killer_of(name)
        survivors += killer is None
        print(f"| {name[3:].replace('_', ' ')} | {MUTANTS[name].__doc__} | {killer or 'NONE'} |", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
