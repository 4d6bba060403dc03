"""Many functions at once: attached, telling themselves apart, and gone afterwards."""

import json
import signal
import subprocess

from tests.support.namespaces import wait_for


def _bpf_objects() -> dict[str, int]:
    """Programs, maps and links in the kernel, and kprobe events in tracefs."""
    count = {}
    for kind in ("prog", "map", "link"):
        done = subprocess.run(["bpftool", "-j", kind], capture_output=True, check=True)
        count[kind] = len(json.loads(done.stdout or b"[]"))
    with open("/sys/kernel/tracing/kprobe_events") as events:
        count["kprobe_events"] = len(events.readlines())
    return count


def test_every_function_that_takes_an_skb_is_attached_and_gone_after(two_ns, collect):
    before = _bpf_objects()
    with collect("-c", "skb,skb-tracking", "-f", "icmp", "-p", "kprobe:*skb*", "-p", "ip_*") as run:
        during = _bpf_objects()
        two_ns.a.ping(two_ns.b_address)
    assert during["prog"] > before["prog"]
    symbols = {event["kernel"]["symbol"] for event in run.events}
    # each event names the function that was hit, though one program serves them all
    assert {"ip_rcv", "ip_local_deliver", "skb_free_head", "ip_output"} <= symbols
    loaded = int(next(line for line in run.stderr.splitlines() if "probe(s) loaded" in line).split()[0])
    assert loaded > 200
    assert _bpf_objects() == before


def test_killed_collection_leaves_nothing_attached(two_ns, collect):
    before = _bpf_objects()
    probes = ("ip_rcv", "kr:ip_rcv/ret", "kprobe:tcp_*", "net:netif_rx")
    with collect("-c", "skb,skb-tracking", *(word for probe in probes for word in ("-p", probe))) as run:
        assert _bpf_objects()["prog"] > before["prog"]
        run.stop(signal.SIGKILL)
    # programs and maps go when the last reference does, after the process
    wait_for(lambda: _bpf_objects() == before, f"as before: {before}")
