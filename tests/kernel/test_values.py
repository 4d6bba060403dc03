"""Arguments and return values of probed functions (options args and ret)."""

import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

from retis_py.kernel.types import KernelTypes
from tests.support.events import frame
from tests.support.namespaces import PATIENCE, wait_for


def _values(event):
    return {argument["name"]: argument["value"] for argument in event["args"]["args"]}


def test_arguments_of_a_tracepoint_have_their_names_and_values(two_ns, collect):
    probes = ("-p", "net:net_dev_start_xmit/args", "-p", "net:net_dev_xmit/args", "-p", "net:netif_receive_skb")
    with collect("-c", "skb-tracking,skb", "-f", "icmp", *probes) as run:
        two_ns.a.ping(two_ns.b_address)
    starts = [event for event in run.events if event["kernel"]["symbol"] == "net:net_dev_start_xmit"]
    ends = [event for event in run.events if event["kernel"]["symbol"] == "net:net_dev_xmit"]
    assert (len(starts), len(ends)) == (2, 2)
    for start, end in zip(starts, ends):
        # TP_PROTO() of include/trace/events/net.h: skb, dev; and skb, rc, dev, skb_len. A ping of 56 bytes is a frame
        # of 98 bytes
        before, after = _values(start), _values(end)
        assert before["skb"] == after["skb"] == start["skb-tracking"]["skb"]
        assert before["dev"] == after["dev"]
        assert (after["rc"], after["skb_len"]) == (0, 98)
        types = {argument["name"]: argument["type"] for argument in end["args"]["args"]}
        assert types["dev"] == "struct net_device *"
        assert "ret" not in end["args"]
    assert all("args" not in event for event in run.events if event["kernel"]["symbol"] == "net:netif_receive_skb")


def test_calls_within_calls_keep_arguments_and_return_values_apart(two_ns, collect):
    # ip_rcv() calls ip_rcv_core(), and by way of the netfilter hook ip_rcv_finish(); veth hands the packet over in a
    # softirq on top of the sender's own return probes
    names = ("ip_rcv", "ip_rcv_core", "ip_rcv_finish", "ip_output", "tcp_v4_rcv")
    probes = [f"kretprobe:{name}/args/ret" for name in names] + [f"kprobe:{name}/args" for name in names]
    options = [word for probe in probes for word in ("-p", probe)]
    with collect("-c", "skb-tracking,skb", "-f", "tcp port 80 or icmp", *options) as run:
        two_ns.a.ping(two_ns.b_address, 3)
        two_ns.tcp(80)
    entries = [event for event in run.events if event["kernel"]["probe_type"] == "kprobe"]
    returns = [event for event in run.events if event["kernel"]["probe_type"] == "kretprobe"]
    assert {event["kernel"]["symbol"] for event in returns} >= {"ip_rcv", "ip_rcv_core", "ip_output"}
    # at return each has the arguments of its own entry, in the same task or softirq
    for event in returns:
        symbol = event["kernel"]["symbol"]
        entry = [e for e in entries if e["kernel"]["symbol"] == symbol and _values(e) == _values(event)]
        assert entry, f"{symbol} returned with arguments it was never called with"
        # the packet may be gone by now; if not, it is the one the function was called with
        if "skb-tracking" in event:
            assert event["skb-tracking"]["skb"] == _values(event)["skb"]
    received = [event["args"]["ret"] for event in returns if event["kernel"]["symbol"] == "ip_rcv"]
    assert received and all(value == {"type": "int", "value": 0} for value in received)  # NET_RX_SUCCESS
    # what ip_rcv_core() returns is the packet it was given
    cores = [event for event in returns if event["kernel"]["symbol"] == "ip_rcv_core"]
    assert [event["args"]["ret"]["value"] for event in cores] == [_values(event)["skb"] for event in cores]
    assert all(frame(event) for event in cores)


def test_every_call_returns_once_also_where_a_function_ends_by_jumping_to_another(two_ns, collect):
    names = ("ip_local_out", "ip_output", "ip_rcv", "ip_rcv_core", "tcp_v4_rcv", "icmp_rcv")
    probes = [f"kretprobe:{name}/args/ret" for name in names] + [f"kprobe:{name}/args" for name in names]
    with collect("-c", "skb-tracking,skb", *(word for probe in probes for word in ("-p", probe))) as run:
        two_ns.a.ping(two_ns.b_address, 3)
        two_ns.tcp(80)
    calls, returns = (
        Counter(event["kernel"]["symbol"] for event in run.events if event["kernel"]["probe_type"] == kind)
        for kind in ("kprobe", "kretprobe")
    )
    assert calls == returns
    assert calls["icmp_rcv"] == 6  # requests and replies
    assert calls["tcp_v4_rcv"] == 7


def test_hit_without_a_packet_has_arguments_and_no_packet(two_ns, collect):
    # napi_poll(napi, work, budget) of include/trace/events/napi.h, between hits that have packets
    options = ("-c", "skb,skb-tracking,dev,ns", "-p", "net:netif_receive_skb", "-p", "napi:napi_poll/args")
    with collect(*options) as run:
        two_ns.a.ping(two_ns.b_address, 3)
    polls = run.at("napi:napi_poll")
    assert polls and run.at("net:netif_receive_skb")
    for event in polls:
        assert set(event) == {"common", "kernel", "args"}
        assert {"napi", "work", "budget"} == set(_values(event))
        assert 0 <= _values(event)["work"] <= _values(event)["budget"]


ACCEPT = """
import socket, sys, threading
server = socket.create_server(("0.0.0.0", 99), backlog=200)
threads = [threading.Thread(target=server.accept) for _ in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def _accepting(process):
    """Threads of *process* that are in accept(2), accept4(2): numbers of x86_64."""
    states = [path.read_text().split(maxsplit=1)[0] for path in Path(f"/proc/{process.pid}/task").glob("*/syscall")]
    return sum(number in ("43", "288") for number in states)


def test_returns_the_kernel_had_no_room_for_are_told(two_ns, collect):
    """kernel/kprobes.c remembers the returns of twice as many calls as there are CPUs, ten at least; calls of accept(2)
    that wait are more."""
    calls = 100
    with collect("-c", "skb", "-p", "kretprobe:inet_csk_accept/ret", "-p", "kprobe:inet_csk_accept/args") as run:
        with two_ns.b:
            server = subprocess.Popen([sys.executable, "-c", ACCEPT, str(calls)])
        try:
            wait_for(lambda: _accepting(server) == calls, f"{calls} threads in accept(2)")
            for _ in range(calls):
                with two_ns.a:
                    socket.create_connection((two_ns.b_address, 99), timeout=PATIENCE).close()
            assert server.wait(timeout=PATIENCE) == 0
        finally:
            server.kill()
    kinds = Counter(event["kernel"]["probe_type"] for event in run.events)
    assert kinds["kprobe"] == calls
    assert kinds["kretprobe"] < calls
    if KernelTypes().vmlinux.has_member("bpf_link_info", "perf_event.kprobe.missed"):
        told = re.search(r"missed (\d+) hit\(s\) of kretprobe:inet_csk_accept\n  (.*)", run.stderr)
        assert int(told[1]) == calls - kinds["kretprobe"]
        assert told[2].startswith("more calls under way than the kernel remembers the returns of")
