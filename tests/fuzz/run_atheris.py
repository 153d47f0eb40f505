"""``make fuzz``: run atheris on each target. A crash is saved as a file and sets the exit code."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
LONGEST_INPUT = 4_096
sys.path.insert(0, str(PROJECT))


def fuzz(target: str, seconds: int, corpus: Path, found: Path) -> None:
    """Fuzz one target in this process; the process ends with it."""
    import atheris

    with atheris.instrument_imports(include=["foreshard"]):
        from tests.fuzz.targets import TARGETS
    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", "-timeout=30", "-rss_limit_mb=2048"]
    files = [f"-artifact_prefix={found}/{target}-", "-print_final_stats=1", "-verbosity=1", str(corpus)]
    atheris.Setup([sys.argv[0], *options, *files], TARGETS[target])
    atheris.Fuzz()


def begin(target: str, corpus: Path) -> None:
    """Copy the seeds and the kept inputs into the fuzzer's start corpus."""
    from tests.fuzz.targets import seeds

    kept = [path.read_bytes() for path in sorted((HERE / "corpus" / target).glob("*"))]
    for content in (*seeds()[target], *kept):
        (corpus / f"{zlib.crc32(content):08x}").write_bytes(content)


def main() -> int:
    """Run all targets, or the one given by ``--target``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="in all")
    parser.add_argument("--target", action="append")
    parser.add_argument("--corpus", type=Path, help="where what is found goes (default: a temporary folder)")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        fuzz(given.inside, given.seconds, given.corpus, PROJECT / "var" / "fuzz")
        return 0
    from tests.fuzz.targets import TARGETS

    (PROJECT / "var" / "fuzz").mkdir(parents=True, exist_ok=True)
    targets = given.target or list(TARGETS)
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for target in targets:
            corpus = (given.corpus or Path(folder)) / target
            corpus.mkdir(parents=True, exist_ok=True)
            begin(target, corpus)
            command = [sys.executable, __file__, "--inside", target, "--seconds", str(given.seconds // len(targets))]
            if subprocess.run([*command, "--corpus", str(corpus)], check=False).returncode:
                failed.append(target)
    print(f"fuzzed {', '.join(targets)}: {'failed: ' + ', '.join(failed) if failed else 'nothing found'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
