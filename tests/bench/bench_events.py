"""How fast event files are read, side by side with upstream's reader in the same run.

    python tests/bench/bench_events.py [--source FILE] [--count N] [--rounds N]

Whole processes, output to /dev/null. The machine is noisy, so contenders take turns and what counts is the ratio
of events/s, ours by upstream's: its median over the rounds, and the best. "repeating" is the file of
`make_events.py`, "varying" the same with ``--vary``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from make_events import write

ROOT = Path(__file__).resolve().parent.parent.parent
ORACLE = os.environ.get("RETIS_PY_ORACLE", str(ROOT / ".venv-oracle/bin/python"))
_TEXT = "import retis, sys\nfor e in retis.EventReader(sys.argv[1]): str(e)"


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def compare(title: str, ours: list[str], upstream: list[str], count: int, rounds: int) -> None:
    """Print rates and ratio of the two commands."""
    times = [(seconds(ours), seconds(upstream)) for _ in range(rounds)]
    ratios = [theirs / mine for mine, theirs in times]
    mine, theirs = (count / min(column) for column in zip(*times))
    print(
        f"{title:<28} {mine:>10,.0f}/s  upstream {theirs:>10,.0f}/s"
        f"  ratio {statistics.median(ratios):.2f} (best {max(ratios):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT.parent / "shared" / "data" / "test_events_packets.json"
    parser.add_argument("--source", type=Path, default=default)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print_ = [sys.executable, "-m", "retis_py", "print"]
    one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    with tempfile.TemporaryDirectory() as directory:
        for kind in ("repeating", "varying"):
            path = Path(directory) / f"{kind}.data"
            write(args.source, args.count, path, vary=kind == "varying")
            upstream = [ORACLE, "-c", _TEXT, str(path)]
            compare(f"print, {kind}", [*print_, str(path)], upstream, args.count, args.rounds)
            compare(
                f"print, {kind}, one core",
                [*one_core, *print_, str(path)],
                [*one_core, *upstream],
                args.count,
                args.rounds,
            )


if __name__ == "__main__":
    main()
