"""What a hit costs, as ratios to an empty program at the same place in the same boot.

    python -m tests.lab.boot 6.12 -- .venv/bin/python tests/bench/bench_hit.py     kprobe:ip_rcv, in the lab
    python tests/bench/bench_hit.py                                                where there are no kprobes:
                                                                                   tp:net:netif_receive_skb
The kernel's own BPF statistics (kernel.bpf_stats_enabled) count runs and time of each program while pings pass over
``lo``. Under emulation the ratios mean something, the nanoseconds do not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RETIS = Path(sys.executable).with_name("retis")
KPROBES = Path("/sys/bus/event_source/devices/kprobe").exists()
PROBE = "kprobe:ip_rcv" if KPROBES else "tp:net:netif_receive_skb"
KIND = "kprobe" if KPROBES else "raw_tracepoint"
_ATTACH = "attach_kprobe(event='ip_rcv'" if KPROBES else "attach_raw_tracepoint(tp='netif_receive_skb'"

_EMPTY = f"""
import os, sys
os.environ["BCC_KERNEL_SOURCE"] = {str(ROOT / "bpf/stubs")!r}
import bcc
b = bcc.BPF(text="#include <linux/types.h>\\nint empty(void *ctx) {{ return 0; }}")
b.{_ATTACH}, fn_name="empty")
print("ready", flush=True)
sys.stdin.read()
"""

FIVE = "skb-tracking,skb,skb-drop,dev,ns"
#: the packets of a case so called belong to a connection
TRACKED = "matched, all five and ct"
#: the hits of these are verdicts of nftables
VERDICTS = ("nft, verdict not asked for", "nft, all five and every verdict")
_NFT = ["-f", "icmp", "-p", "kprobe:__nft_trace_packet", "--allow-system-changes"]
_TABLE = "retis_bench"
_RULES = f"add table inet {_TABLE}; add chain inet {_TABLE} c {{ type filter hook output priority 0; }}"

CASES = {
    "unmatched, -f 'tcp port 443'": ["-f", "tcp port 443"],
    "unmatched, -f and -m": ["-f", "icmp", "-m", 'sk_buff.dev.name == "nosuch0"'],
    "unmatched, long filter": ["-f", "(tcp port 443 or udp port 53) and net 10.0.0.0/8 and not host 10.1.1.1"],
    "matched, all five collectors": ["-f", "icmp", "-c", FIVE],
    "matched, all and every skb section": ["-f", "icmp", "-c", FIVE, "--skb-sections", "all"],
    "matched, all five, ct, no conntrack": ["-f", "icmp", "-c", f"{FIVE},ct"],
    TRACKED: ["-f", "icmp", "-c", f"{FIVE},ct"],
    "matched, collector skb-tracking only": ["-f", "icmp", "-c", "skb-tracking"],
}
if KPROBES:
    CASES[VERDICTS[0]] = [*_NFT, "-c", f"{FIVE},nft", "--nft-verdicts", "drop"]
    CASES[VERDICTS[1]] = [*_NFT, "-c", f"{FIVE},nft", "--nft-verdicts", "all"]


def programs() -> dict[int, tuple[str, int, int]]:
    """id -> name, runs and ns of all programs of the kind."""
    listed = json.loads(subprocess.run(["bpftool", "-j", "prog"], capture_output=True, check=True).stdout)
    return {
        p["id"]: (p.get("name", ""), p.get("run_cnt", 0), p.get("run_time_ns", 0)) for p in listed if p["type"] == KIND
    }


def measure(arguments: list[str], pings: int) -> float:
    """ns per hit of retis' program on the probed function."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder, "ready")
        before = programs()
        probe = () if "-p" in arguments else ("-p", PROBE)
        command = [RETIS, "collect", *probe, *arguments, "-o", Path(folder, "out"), "--ready-file", ready]
        collect = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not ready.exists():
            if collect.poll() is not None:
                raise SystemExit(f"collect failed: {command}")
            time.sleep(0.1)
        start = programs()
        ping(pings)
        end = programs()
        collect.send_signal(signal.SIGINT)
        collect.wait()
    # ids count up in the order of loading: tracking's programs first, then skb:kfree_skb, then the probe asked for
    last = max(i for i in end if i not in before)
    return (end[last][2] - start[last][2]) / (end[last][1] - start[last][1])


@contextlib.contextmanager
def ruleset(label: str) -> Iterator[None]:
    """A rule that asks for connections makes the kernel track them; any rule gives verdicts."""
    rule = {TRACKED: "ct state new counter", **dict.fromkeys(VERDICTS, "counter")}.get(label)
    if rule:
        subprocess.run(["nft", f"{_RULES}; add rule inet {_TABLE} c {rule}"], check=True)
    try:
        yield
    finally:
        if rule:
            subprocess.run(["nft", f"delete table inet {_TABLE}"], check=True)


def ping(count: int) -> None:
    subprocess.run(["ping", "-q", "-f", "-c", str(count), "127.0.0.1"], stdout=subprocess.DEVNULL, check=True)


def main(pings: int) -> None:
    subprocess.run(["sysctl", "-q", "kernel.bpf_stats_enabled=1"], check=True)
    empty = subprocess.Popen([sys.executable, "-c", _EMPTY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert empty.stdout is not None
    empty.stdout.readline()
    own = next(i for i, (name, _, _) in programs().items() if name == "empty")
    print(f"kernel {os.uname().release}, {pings} pings over lo, {PROBE}")
    rows = []
    for label, arguments in CASES.items():
        begin = programs()[own]
        with ruleset(label):
            ns = measure(arguments, pings)
        end = programs()[own]
        base = (end[2] - begin[2]) / (end[1] - begin[1])
        rows.append((label, ns, base))
        print(f"{label:38} {ns:8.0f} ns   {ns / base:5.1f} x an empty program ({base:.0f} ns)", flush=True)
    empty.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pings", type=int, default=3000)
    main(parser.parse_args().pings)
