"""Many functions at once: attached, telling themselves apart, and gone afterwards."""

import json
import signal
import subprocess
from pathlib import Path

from retis_py.kernel.types import KernelTypes
from tests.support.namespaces import wait_for


def _bpf_objects() -> dict[str, list]:
    """Ids of programs, maps and links in the kernel, kprobe events in tracefs, and functions that are traced."""
    found = {}
    for kind in ("prog", "map", "link"):
        done = subprocess.run(["bpftool", "-j", kind], capture_output=True, check=True)
        found[kind] = sorted(item["id"] for item in json.loads(done.stdout or b"[]"))
    for name in ("kprobe_events", "enabled_functions"):
        found[name] = Path("/sys/kernel/tracing", name).read_text().splitlines()
    return found


def test_every_function_that_takes_an_skb_is_attached_and_gone_after(two_ns, collect):
    before = _bpf_objects()
    multi = KernelTypes().vmlinux.function("register_fprobe_ips") is not None
    # one by one, what is attached in a minute is detached in five: the kernel waits for each
    probes = ("-p", "kprobe:*") if multi else ("-p", "kprobe:*skb*", "-p", "ip_*")
    with collect("-c", "skb,skb-tracking", "-f", "icmp", *probes) as run:
        during = _bpf_objects()
        two_ns.a.ping(two_ns.b_address)
    assert len(during["prog"]) > len(before["prog"])
    if multi:
        assert len(during["link"]) > len(before["link"])  # kprobe-multi
        assert len(during["enabled_functions"]) > 1024
    symbols = {event["kernel"]["symbol"] for event in run.events}
    # each event names the function that was hit, though one program serves them all
    assert {"ip_rcv", "ip_local_deliver", "skb_free_head", "ip_output"} <= symbols
    loaded = int(next(line for line in run.stderr.splitlines() if "probe(s) loaded" in line).split()[0])
    assert loaded > (1024 if multi else 200)
    assert _bpf_objects() == before


def test_killed_collection_leaves_nothing_attached(two_ns, collect):
    before = _bpf_objects()
    probes = ("ip_rcv", "kr:ip_rcv/ret", "kprobe:tcp_*", "net:netif_rx")
    with collect("-c", "skb,skb-tracking", *(word for probe in probes for word in ("-p", probe))) as run:
        assert len(_bpf_objects()["prog"]) > len(before["prog"])
        run.stop(signal.SIGKILL)
    # programs and maps go when the last reference does, after the process
    wait_for(lambda: _bpf_objects() == before, f"as before: {before}")
