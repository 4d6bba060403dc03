"""How fast print, sort, pcap and stats are, side by side with upstream's reader in the same run; and their memory.

    python tests/bench/bench_process.py [--source FILE] [--count N] [--rounds N] [--vary]

Whole processes, output to /dev/null. The machine is noisy, so contenders take turns and what counts is the ratio
of events/s, ours by upstream's: its median over the rounds, and the best. Memory is the largest resident set of
any one process of the command. Floors are printed beside; nothing fails for them.

What runs has ordinary priority. For figures that can be compared the machine should have nothing else to do: the load
is printed, too.
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
from typing import NamedTuple

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


class Floor(NamedTuple):
    """What a command should reach: its rate by upstream's, what to aim for, and the memory it may take, in MB."""

    ratio: float
    aim: float
    megabytes: int

    def verdict(self, ratio: float, memory: float) -> str:
        """Whether that holds. A report, not a test: the machine may have other work."""
        speed = "reaches its aim" if ratio >= self.aim else "holds" if ratio >= self.ratio else "MISSED"
        size = "holds" if memory < self.megabytes else "MISSED"
        return f"floor {self.ratio} (aim {self.aim}): {speed}; under {self.megabytes} MB: {size}"


#: command, what of upstream it is compared with, and its floor
COMMANDS = {
    "print": (["print"], _TEXT, Floor(1.0, 1.5, 100)),
    "sort -o": (["sort", "-o", "/dev/null"], _TEXT, Floor(0.8, 1.2, 150)),
    "pcap": (["pcap"], _TEXT, Floor(0.3, 0.8, 100)),
    "stats": (["stats"], _PARSE, Floor(2.0, 3.0, 100)),
}


def measure(path: str, count: int, rounds: int) -> None:
    """Print a line for each command on *path*."""
    for name, (words, upstream, floor) in COMMANDS.items():
        command = [sys.executable, "-m", "retis_py", *words, path]
        times = [(run(command), run([ORACLE, "-c", upstream, path])) for _ in range(rounds)]
        ratios = [theirs / mine for mine, theirs in times]
        ratio, memory = statistics.median(ratios), megabytes(command)
        mine, theirs = (count / min(column) for column in zip(*times))
        print(
            f"{name:<8} {mine:>10,.0f}/s  upstream {'text ' if upstream is _TEXT else 'parse'}"
            f" {theirs:>10,.0f}/s  ratio {ratio:.2f} (best {max(ratios):.2f})  {memory:>4.0f} MB"
            f"  {floor.verdict(ratio, memory)}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT.parent / "shared" / "data" / "test_events_packets.json"
    parser.add_argument("--source", type=Path, default=default)
    parser.add_argument("--count", type=int, action="append", help="default: 100,000 and 1,000,000")
    parser.add_argument("--rounds", type=int, default=5, help="of 100,000 events; larger files get 3 at most")
    parser.add_argument("--vary", action="store_true", help="no two packets alike")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        # an installed package has its bytecode; a checkout may be told not to write any
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = directory
        path = Path(directory) / "events.data"
        for count in args.count or (100_000, 1_000_000):
            write(args.source, count, path, vary=args.vary)
            print(f"{count:,} events, load {os.getloadavg()[0]:.1f}")
            measure(str(path), count, args.rounds if count <= 100_000 else min(args.rounds, 3))


if __name__ == "__main__":
    main()
