"""``make bench``: every benchmark that this machine can run, one after the other; see docs/performance.md.

The event file is made from the recorded packets of upstream's test data: name it with SOURCE, or put it where the
tests look for it. The cost of a hit is measured on this kernel; in the lab:

    python -m tests.lab.boot 6.12 -- .venv/bin/python tests/bench/bench_hit.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[2] / "shared" / "data" / "test_events_packets.json"


def main(source: Path) -> int:
    """Run them all; the number of those that failed."""
    failed = 0
    event_files, as_root = ("bench_events.py", "bench_process.py"), ("bench_nft.py", "bench_hit.py")
    for name in (*event_files, "bench_collect.py", "bench_ovs.py", *as_root):
        print(f"\n{name}", flush=True)
        arguments = ["--source", str(source)] if name in event_files else []
        if arguments and not source.exists():
            print(f"skipped: {source} is not there")
            continue
        if name in as_root and os.geteuid() != 0:
            print("skipped: needs root")
            continue
        prefix = ["unshare", "-n"] if name == "bench_nft.py" else []
        failed += subprocess.run([*prefix, sys.executable, str(HERE / name), *arguments]).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE))
