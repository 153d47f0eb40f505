"""``make bench``: every benchmark beside this file (``*_benchmark.py``), one after another, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run them all; the exit code says whether any failed. Arguments name the ones to run (``forecast``, …)."""
    wanted = set(sys.argv[1:])
    failed = []
    for path in sorted(Path(__file__).parent.glob("*_benchmark.py")):
        name = path.stem.removesuffix("_benchmark")
        if wanted and name not in wanted:
            continue
        if subprocess.run([sys.executable, str(path), "--json", f"var/bench/{name}.json"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
