"""Packets through user space: a real datapath, and handlers with USDT probes (`tests.support.vswitchd`).

``make test-ovs-usdt OVS=DIRECTORY`` runs these against the ovs-vswitchd of DIRECTORY, built with
--enable-usdt-probes, instead.
"""

import contextlib
import itertools
import os
import socket

import pytest

from retis_py.kernel.types import KernelTypes
from tests.native.test_ovs_user import (  # noqa: F401
    test_thread_that_preempts_another_in_the_same_probe_leaves_its_event_alone,
)
from tests.support.events import frame, tracking_id
from tests.support.namespaces import new_namespace, run, wait_for
from tests.support.openvswitch import Bridge, module, open_vswitch
from tests.support.vswitchd import StandIn, build

REAL = os.environ.get("RETIS_PY_OVS_USDT")
USDT = ("-c", "ovs,skb,skb-tracking,skb-drop", "--ovs-track")
PORTS = (7000, 7001)
SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h


class StandInSwitch:
    """The stand-in as a switch between namespaces a and b."""

    A, B = Bridge.A, Bridge.B

    def __init__(self, program, a, b):
        self.program, self.a, self.b = program, a, b
        self.ports = [f"s{number}-{os.getpid() % 10000}" for number in (1, 2)]
        for ns, port, address in zip((a, b), self.ports, (self.A, self.B)):
            run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", ns.name)
            run("ip", "link", "set", port, "up")
            ns.ip(f"address add {address}/24 dev eth0")
            ns.ip("link set eth0 up")
        for ns, other, address in ((a, b, self.B), (b, a, self.A)):
            wait_for(lambda ns=ns: "LOWER_UP" in ns.ip("link show eth0"), "carrier")
            ns.ip(f"neigh replace {address} lladdr {other.mac('eth0')} dev eth0")
            ns.ip("link set eth0 txqueuelen 5000")

    def start(self, handlers=4, batch=63, flags=""):
        return StandIn(self.program, "datapath", handlers, batch, flags or "-", *self.ports)

    def delete(self):
        for port in self.ports:
            run("ip", "link", "del", port)


class RealSwitch(Bridge):
    """A real ovs-vswitchd, told to install a flow for each connection."""

    def start(self, handlers=4, batch=63, flags=""):
        self.ovs.vsctl("set", "Open_vSwitch", ".", f"other_config:n-handler-threads={handlers}")
        self.ovs.appctl("upcall/disable-megaflows")
        self.set_flows("in_port=1,actions=output:2", "in_port=2,actions=output:1")
        return contextlib.nullcontext(self)

    def say(self, line):
        """It does not wait for us."""


@pytest.fixture(scope="module")
def switch(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ovs")
    with contextlib.ExitStack() as stack:
        a, b = (stack.enter_context(new_namespace(role)) for role in "ab")
        if REAL:
            os.environ["PATH"] = os.pathsep.join((REAL, os.environ["PATH"]))
            switch = RealSwitch(stack.enter_context(open_vswitch(directory)), a, b)
        else:
            stack.enter_context(module())
            switch = StandInSwitch(build(directory), a, b)
        stack.callback(switch.delete)
        yield switch


@pytest.fixture
def listeners(switch):
    """Nobody answers what arrives there."""
    with contextlib.ExitStack() as stack:
        for ns, address in ((switch.a, switch.A), (switch.b, switch.B)):
            for port in PORTS:
                with ns:
                    sink = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
                sink.bind((address, port))
        yield


def send(switch, count, first=0):
    """*count* packets, each a flow of its own: to the two ports in turns, half of them back."""
    ways = ((switch.a, switch.A, switch.B, 0), (switch.b, switch.B, switch.A, count // 2))
    for ns, here, there, skipped in ways:
        with ns:
            for number, port in zip(range(first + skipped, first + skipped + -(-count // 2)), itertools.cycle(PORTS)):
                with socket.socket(type=socket.SOCK_DGRAM) as sender:
                    sender.bind((here, 10000 + number))
                    sender.sendto(b"%08d" % number, (there, port))
        if count == 1:
            break


def kinds(series):
    out = []
    for event in series:
        section = event.get("ovs") or {"event_type": event["kernel"]["symbol"]}
        kind = section["event_type"]
        if kind == "flow_lookup":
            kind = "hit" if section["flow"] else "miss"
        out.append(section.get("op_type") or section.get("action") or kind)
    return out


CHAIN = ["miss", "upcall", "upcall_enqueue", "recv_upcall", "put", "exec", "output"]


def collected(switch, run, handlers, expected):
    """A thousand upcalls, held back until all are queued."""
    send(switch, 1000)
    handlers.say("p")
    wait_for(lambda: run.path.read_bytes().count(b'"recirc_id"') >= expected, f"{expected} outputs")


def check_chains(series, expected):
    assert len(series) == expected
    places, threads = set(), set()
    for one in series:
        # the handler may be faster than the upcall's return
        assert [kind for kind in kinds(one) if kind != "upcall_return"] == CHAIN
        assert kinds(one).count("upcall_return") == 1
        steps = dict(zip(kinds(one), one))
        assert len({event["ovs"]["queue_id"] for event in one if "queue_id" in event["ovs"]}) == 1
        recv, put, execute, output = (steps[kind] for kind in ("recv_upcall", "put", "exec", "output"))
        assert {event["common"]["task"]["tgid"] for event in (put, execute, output)} == {recv["userspace"]["tid"]}
        (place,) = {(event["ovs"]["batch_ts"], event["ovs"]["batch_idx"]) for event in (recv, put, execute)}
        places.add((recv["userspace"]["tid"], *place))
        threads.add(recv["userspace"]["tid"])
        assert recv["ovs"]["pkt_size"] == len(frame(steps["upcall"]))
        assert without_checksum(frame(output)) == without_checksum(frame(steps["upcall"]))
        assert tracking_id(output) != tracking_id(steps["upcall"])
    # no two have the same place, all handlers had some, and batches were of many
    assert len(places) == expected
    assert len(threads) == 4 or REAL
    if not REAL:
        assert max(place for *_, place in places) > 55


def test_thousand_upcalls_of_four_handlers_join_exactly(switch, listeners, collect):
    with switch.start(handlers=4, batch=63, flags="ph") as handlers, collect(*USDT) as run:
        collected(switch, run, handlers, 1000)
        dropping = not REAL and "OVS_ACTION_ATTR_DROP" in KernelTypes().enum("ovs_action_attr")  # since Linux 6.6
        if dropping:
            handlers.say("d")
            send(switch, 1, first=5000)
            wait_for(lambda: b'"OVS_' in run.path.read_bytes(), "the drop")
    series = [one for one in run.series() if is_udp(one)]
    check_chains(series[:1000], 1000)
    assert "lost" not in run.stderr
    if not dropping:
        assert len(series) == 1000
        return
    (dropped,) = series[1000:]
    drop, freed = dropped[-2:]
    assert (drop["ovs"]["action"], drop["ovs"]["reason"]) == ("drop", 7)
    assert freed["skb-drop"] == {"subsys": "openvswitch", "drop_reason": "OVS_DROP_EXPLICIT_WITH_ERROR"}
    assert f"exec drop 7 q {drop['ovs']['queue_id']}" in run.printed()


@pytest.mark.skipif(bool(REAL), reason="a real one decides itself how large its batches are")
@pytest.mark.parametrize("size", [1, 63])
def test_batches_are_told_apart_whatever_their_size(switch, listeners, collect, size):
    with switch.start(handlers=1, batch=size, flags="ph") as handlers, collect(*USDT) as run:
        send(switch, 126)
        handlers.say("p")
        wait_for(lambda: run.path.read_bytes().count(b'"recirc_id"') >= 126, "126 outputs")
    series = [one for one in run.series() if is_udp(one)]
    received = {}
    for one in series:
        (recv,) = [event["ovs"] for event in one if event["ovs"]["event_type"] == "recv_upcall"]
        places = {(e["ovs"]["batch_ts"], e["ovs"]["batch_idx"]) for e in one if "batch_ts" in e["ovs"]}
        assert places == {(recv["batch_ts"], recv["batch_idx"])}
        received.setdefault(recv["batch_ts"], []).append(recv["batch_idx"])
    assert len(series) == 126
    # one may have been under way when the handler was told to wait for all
    whole = [places for places in received.values() if places == list(range(size))]
    assert len(whole) * size == 126


def test_filtered_out_packets_give_no_event_and_the_end_of_the_process_is_told(switch, listeners, collect):
    filtered = ("-f", f"udp dst port {PORTS[0]}")
    with switch.start(handlers=4, batch=63, flags="ph") as handlers, collect(*USDT, *filtered) as run:
        collected(switch, run, handlers, 500)
        if not REAL:
            handlers.end()
            wait_for(lambda: "has ended" in run.stderr, "the warning")
    assert "lost" not in run.stderr
    check_chains(run.series(), 500)
    if not REAL:
        assert run.stderr.count(f"process {handlers.pid} has ended: its probes report nothing any more") == 1


def without_checksum(data):
    """The kernel completes UDP's only when it copies the packet for user space."""
    return data[:40] + data[42:]


def is_udp(series):
    return "packet" in series[0] and frame(series[0])[23] == 17
