"""How fast sort, pcap and stats are, side by side with upstream's reader in the same run; and their memory.

    python tests/bench/bench_process.py [--source FILE] [--count N] [--rounds N] [--vary]

Whole processes, output to /dev/null. The machine is noisy, so contenders take turns and what counts is the ratio
of events/s, ours by upstream's: its median over the rounds, and the best. Memory is the largest resident set of
any one process of the command.
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
_PARSE = "import retis, sys\nfor e in retis.EventReader(sys.argv[1]): pass"
#: runs a command and prints the largest resident set, in KiB, of a process it started or that started
_MEASURE = (
    "import resource, subprocess, sys\n"
    "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


def run(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def megabytes(command: list[str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return int(done.stdout) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT.parent / "shared" / "data" / "test_events_packets.json"
    parser.add_argument("--source", type=Path, default=default)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vary", action="store_true", help="no two packets alike")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        # an installed package has its bytecode; a checkout may be told not to write any
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = directory
        path = str(Path(directory) / "events.data")
        write(args.source, args.count, Path(path), vary=args.vary)
        retis = [sys.executable, "-m", "retis_py"]
        commands = {
            "sort -o": ([*retis, "sort", "-o", "/dev/null", path], _TEXT),
            "pcap": ([*retis, "pcap", path], _TEXT),
            "stats": ([*retis, "stats", path], _PARSE),
        }
        for name, (command, upstream) in commands.items():
            times = [(run(command), run([ORACLE, "-c", upstream, path])) for _ in range(args.rounds)]
            ratios = [theirs / mine for mine, theirs in times]
            mine, theirs = (args.count / min(column) for column in zip(*times))
            print(
                f"{name:<8} {mine:>10,.0f}/s  upstream {'text' if upstream is _TEXT else 'parse'}"
                f" {theirs:>10,.0f}/s  ratio {statistics.median(ratios):.2f} (best {max(ratios):.2f})"
                f"  {megabytes(command):.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
