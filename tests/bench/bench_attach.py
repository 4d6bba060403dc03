"""How long attaching every function that takes an sk_buff takes, and detaching.

    python -m tests.lab.boot 6.12 -- .venv/bin/python tests/bench/bench_attach.py

Needs kprobes: the lab, or a kernel that has them. The baseline is the same run with one probe.
"""

from __future__ import annotations

import os
import time

from retis_py.kernel.collection import Collection
from retis_py.kernel.options import Options


def run(*probes: str) -> dict[str, float]:
    """Seconds of each phase of a run with *probes*; ``count`` is how many there were."""
    marks = [time.perf_counter()]

    def mark() -> None:
        marks.append(time.perf_counter())

    collection = Collection(Options(collectors=("skb-tracking", "skb"), probes=probes, packet_filter="tcp port 443"))
    collection.prepare()
    mark()
    collection.attach()
    mark()
    count = len(collection._planned)
    collection.close()
    mark()
    resolve, attach, detach = (after - before for before, after in zip(marks, marks[1:]))
    return {"count": count, "resolve": resolve, "compile and attach": attach, "detach": detach}


if __name__ == "__main__":
    print(f"kernel {os.uname().release}")
    run("kprobe:ip_rcv")  # what is read once, BTF and bcc, aside
    one, every = run("kprobe:ip_rcv"), run("kprobe:*")
    print(f"{every['count']} probes in place of {one['count']}")
    for phase in ("resolve", "compile and attach", "detach"):
        print(f"{phase:20} {every[phase]:6.2f} s   with one probe {one[phase]:6.2f} s")
