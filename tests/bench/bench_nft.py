"""What a large ruleset costs the start of collector nft: as it is started by `retis collect --allow-system-changes`.

    unshare -n python tests/bench/bench_nft.py [--rules N] [--rounds N]

The namespace should be a new one, as its ruleset is replaced. The rest of the start, compiling and attaching, does not
look at rulesets, so this needs neither kprobes nor BPF.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from retis_py.collectors.nft_rules import Namespaces, RuleTexts, find_nft
from retis_py.collectors.nft_trace import TraceRule


def load(nft: str, rules: int) -> int:
    """A ruleset with a chain of as many *rules*; the handle of their table."""
    lines = "\n".join(f"ip saddr 10.{i >> 16}.{i >> 8 & 255}.{i & 255} counter drop" for i in range(rules))
    text = f"flush ruleset\ntable ip t {{ chain c {{\n{lines}\n}}; }}"
    subprocess.run([nft, "-f", "-"], input=text, text=True, check=True)
    listed = json.loads(subprocess.run([nft, "-j", "list", "tables"], capture_output=True, check=True).stdout)
    return next(int(entry["table"]["handle"]) for entry in listed["nftables"] if "table" in entry)


def measure(nft: str, rules: int) -> tuple[float, float, float]:
    """Seconds until the collector has started, until it knows the last rule, and for its end."""
    table = load(nft, rules)
    namespaces, trace = Namespaces(by_cookie=True), TraceRule(nft)
    net = namespaces.enter(Path("/proc/self/ns/net"))
    texts = RuleTexts(nft, namespaces)
    began = time.perf_counter()
    trace.clean_up()
    trace.install()
    texts.start(everything=True)
    started = time.perf_counter()
    while rules and texts.find(net or 0, table, rules + 1) is None:
        time.sleep(0.001)
    known = time.perf_counter()
    texts.stop()
    trace.remove()
    return started - began, known - began, time.perf_counter() - known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    nft = find_nft()
    if nft is None or len(socket.if_nameindex()) > 1:
        sys.exit("needs nft, and a network namespace of its own: unshare -n")
    for rules in (0, args.rules):
        rounds = [measure(nft, rules) for _ in range(args.rounds)]
        started, known, ended = (statistics.median(column) for column in zip(*rounds))
        print(f"{rules:>6} rules: started in {started:.3f} s, last rule known after {known:.3f} s, end {ended:.3f} s")


if __name__ == "__main__":
    main()
