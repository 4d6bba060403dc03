"""How long attaching every function that takes an sk_buff takes, and detaching.

    python -m tests.lab.boot 6.12 -- .venv/bin/python tests/bench/bench_attach.py

Needs kprobes: the lab, or a kernel that has them. The baseline is the same run with one probe.
"""

from __future__ import annotations

import os
import time
from typing import Any
from unittest import mock

import retis_py.kernel.collection as collection_module
from retis_py.kernel.options import Options


def run(*probes: str) -> dict[str, float]:
    """Seconds of each phase of a run with *probes*; ``count`` is how many there were."""
    began = {"start": time.perf_counter()}
    attach_all = collection_module.attach_all

    def timed(*arguments: Any) -> int:
        began["attach"] = time.perf_counter()
        return attach_all(*arguments)

    collection = collection_module.Collection(
        Options(collectors=("skb-tracking", "skb"), probes=probes, packet_filter="tcp port 443")
    )
    collection.prepare()
    began["compile"] = time.perf_counter()
    with mock.patch.object(collection_module, "attach_all", timed):
        collection.attach()
        collection.begin()
    began["detach"] = time.perf_counter()
    count = len(collection._planned)
    collection.close()
    end = time.perf_counter()
    return {
        "count": count,
        "resolve": began["compile"] - began["start"],
        "compile": began["attach"] - began["compile"],
        "attach": began["detach"] - began["attach"],
        "detach": end - began["detach"],
    }


if __name__ == "__main__":
    print(f"kernel {os.uname().release}")
    run("kprobe:ip_rcv")  # what is read once, BTF and bcc, aside
    one, every = run("kprobe:ip_rcv"), run("kprobe:*")
    print(f"{every['count']} probes in place of {one['count']}")
    for phase in ("resolve", "compile", "attach", "detach"):
        print(f"{phase:20} {every[phase]:6.2f} s   with one probe {one[phase]:6.2f} s")
