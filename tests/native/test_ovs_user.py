"""User half of collector ovs on this kernel: the handlers of a stand-in, told what to do line by line."""

import random
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest

from retis_py.collectors import COLLECTORS, Event
from retis_py.collectors.ovs import Ovs, calls
from retis_py.collectors.ovs_queue import queue_id
from retis_py.collectors.parts import PARTS
from retis_py.errors import KernelError
from retis_py.events.core import UserspaceSection
from retis_py.events.wire import Decoder
from retis_py.kernel.compose import Run, compose
from retis_py.kernel.cpus import possible_cpus
from retis_py.kernel.facts import kernel_macros, kernel_types
from retis_py.kernel.losses import CAUSES
from retis_py.kernel.plan import plan_user
from retis_py.kernel.session import Session
from retis_py.kernel.system import System
from retis_py.kernel.usdt import UserProcess
from tests.support.namespaces import wait_for
from tests.support.vswitchd import StandIn, build

#: of module openvswitch, which may not be there: only the programs of the user half are loaded
MODULE_TYPES = """
struct dp_upcall_info { u32 portid; u8 cmd; };
struct sw_flow_actions { u32 actions_len; };
struct sw_flow { struct { u32 ufid_len, ufid[4]; } id; struct sw_flow_actions *sf_acts; };
struct sw_flow_key { u32 recirc_id; };
struct ovs_conntrack_info { struct { u16 id; } zone; u8 commit, force; u16 family; };
struct nlattr { u16 nla_len, nla_type; };
"""
MACROS = {"OVS_TRACK": 1, "HAVE_OVS_NAT": 0, "HAVE_OVS_CACHE_HIT": 0, "OVS_ARG_MASK_HIT": 3}
MACROS["OVS_CALLS"] = calls(possible_cpus())
MACROS |= {f"OVS_{name}": number for number, name in enumerate(("OUTPUT", "RECIRC", "CT", "DROP"))}

EPOCH = 30_000_000_000  # ns: bpf/collectors/ovs.bpf.c, OVS_EPOCH


class Handlers:
    """A run with nothing but the USDT probes of *stand_in*."""

    def __init__(self, stand_in: StandIn, pages: int = 16, edit: Callable[[str], str] = str) -> None:
        """*edit* changes the text of the run."""
        self.stand_in = stand_in
        ovs = Ovs()
        ovs._defines = MACROS
        skb = [kind() for kind in COLLECTORS if kind.name == "skb-tracking"]
        types = System().types
        self.process = UserProcess(stand_in.pid)
        planned = plan_user(ovs, self.process)
        shapes = [entry.shape for entry in planned]
        for number, entry in enumerate(planned):
            self.process.enable(entry.probe.symbol, entry.shape.function(number))
        run = Run(
            [*skb, ovs],
            shapes,
            None,
            None,
            kernel_types(types, skb) + MODULE_TYPES,
            kernel_macros(types.vmlinux, skb),
            max_probes=len(planned),
            usdt=self.process.text(),
        )
        self.raws: list[bytes] = []
        self.session = Session(edit(compose(run)), self.raws.append, pages)
        for number, entry in enumerate(planned):
            self.session.attach_usdt(entry.shape.function(number), number, self.process)
        probes = [UserspaceSection("usdt", e.probe.symbol, 0, self.process.path, 0, 0) for e in planned]
        self.decoder = Decoder(Event, PARTS, ovs.maker, probes)
        self.session.enable()

    def queued(self, packet: bytes, times: int = 1, epochs_ago: int = 0) -> None:
        """The kernel half has seen *packet* queued."""
        table = self.session.table("ovs_waiting")
        key = table.Key(queue_id(packet), 0, time.clock_gettime_ns(time.CLOCK_MONOTONIC) // EPOCH - epochs_ago)
        count = table[key].count if key in table else 0
        table[key] = table.Leaf(count + times, queue_id(packet))

    def returning(self) -> dict[int, int]:
        """Hash of each packet waited for on its way back, and the queue id it belongs to."""
        items = self.session.table("ovs_waiting").items()
        return {key.hash: leaf.queue_id for key, leaf in items if key.stage == 1 and leaf.count > 0}

    def events(self):
        self.session.poll()
        raws, self.raws[:] = sorted(self.raws), []
        raws.sort(key=lambda raw: struct.unpack_from("=Q", raw))
        return [self.decoder.decode(raw) for raw in raws]

    def told(self):
        """(kind, queue id, index in batch) of the events since the last call."""
        return [(getattr(e.ovs, "op_type", "recv"), e.ovs.queue_id, e.ovs.batch_idx) for e in self.events()]

    def close(self) -> None:
        self.session.close()
        self.process.close()


def packet(number: int, size: int = 98) -> bytes:
    return random.Random(number).randbytes(size)


@pytest.fixture(scope="module", params=["", "-no-pie -DWITH_SEMAPHORES"], ids=["pie", "semaphores"])
def handlers(request, tmp_path_factory):
    program = build(tmp_path_factory.mktemp("standin"), *request.param.split())
    with StandIn(program, "script", 4) as stand_in:
        handlers = Handlers(stand_in)
        yield handlers
        handlers.close()


@pytest.fixture(autouse=True)
def _fresh(request):
    """Batches of other tests are over."""
    if "handlers" in request.fixturenames:
        request.getfixturevalue("handlers").session.table("ovs_batches").clear()


def test_thread_that_preempts_another_in_the_same_probe_leaves_its_event_alone(tmp_path):
    """Since Linux 6.13 programs may have a stack that belongs to the CPU (bpf/user.h)."""
    low, high = 40_000, 500
    packets = [[struct.pack("<II56x", thread, n) for n in range(count)] for thread, count in enumerate((64, high))]
    with StandIn(build(tmp_path), "preempt", low, high) as stand_in:
        handlers = Handlers(stand_in, pages=2048)
        for group, times in zip(packets, (low // 64, 1)):
            for one in group:
                handlers.queued(one, times)
        stand_in.say("go")
        events = handlers.events()
        losses = list(handlers.session.losses())
        handlers.close()
    assert not losses
    assert Counter(event.ovs.queue_id for event in events) == {
        **{queue_id(packet): low // 64 for packet in packets[0]},
        **{queue_id(packet): 1 for packet in packets[1]},
    }


def test_equal_packets_of_two_cpus_at_the_same_moment_are_both_waited_for(tmp_path):
    count = 10_000
    packets = [struct.pack("<I60x", number) for number in range(count)]
    with StandIn(build(tmp_path), "together", count) as stand_in:
        handlers = Handlers(stand_in, pages=4096)
        for one in packets:
            handlers.queued(one, 2)
        stand_in.say("go")
        events = Counter((getattr(event.ovs, "op_type", "recv"), event.ovs.queue_id) for event in handlers.events())
        losses = list(handlers.session.losses())
        waited_for = Counter(dict.fromkeys(handlers.returning(), 0))
        for key, leaf in handlers.session.table("ovs_waiting").items():
            if key.stage == 1:
                waited_for[key.hash] += leaf.count
        handlers.close()
    assert not losses
    numbers = list(map(queue_id, packets))
    assert events == {(kind, number): 2 for number in numbers for kind in ("recv", "exec")}
    assert waited_for == dict.fromkeys(numbers, 2)


def test_packet_that_cannot_be_waited_for_is_a_loss(tmp_path):
    """Here the table has one place, and evicts nothing."""

    def edit(text: str) -> str:
        whole = 'BPF_TABLE("lru_hash", struct ovs_place, struct ovs_waiting, ovs_waiting, 65536)'
        assert whole in text
        return text.replace(whole, whole.replace("lru_hash", "hash").replace("65536", "1"))

    with StandIn(build(tmp_path), "script", 1) as stand_in:
        handlers = Handlers(stand_in, edit=edit)
        data = packet(1)
        handlers.queued(data)  # takes the only place
        stand_in.recv(0, data)
        stand_in.execute(0, data)
        assert [kind for kind, *_ in handlers.told()] == ["recv", "exec"]
        losses = [(*divmod(index, len(CAUSES)), count) for index, _cpu, count in handlers.session.losses()]
        handlers.close()
    executes = list(Ovs.user_probes).index("dpif_netlink_operate__:op_flow_execute")
    assert losses == [(executes, CAUSES.index("table of a collector full"), 1)]


def test_threads_that_ended_leave_room_for_others(handlers):
    table = handlers.session.table("ovs_batches")
    for thread in range(calls(possible_cpus())):
        table[table.Key(1 << 24 | thread)] = table.Leaf()
    data = packet(700)
    handlers.queued(data)
    handlers.stand_in.recv(1, data)
    assert handlers.told() == [("recv", queue_id(data), 0)]
    assert not list(handlers.session.losses())


def test_packet_is_waited_for_through_the_next_epoch(handlers):
    for epochs_ago in range(4):
        data = packet(800 + epochs_ago)
        handlers.queued(data, epochs_ago=epochs_ago)
        handlers.stand_in.recv(0, data)
    # an epoch may have ended meanwhile, at most one
    numbers = [number for _, number, _ in handlers.told()]
    assert numbers in ([queue_id(packet(800)), queue_id(packet(801))], [queue_id(packet(800))])


def test_operation_on_a_batch_begun_before_collection_is_nobodys(handlers):
    handlers.stand_in.put(0)
    handlers.stand_in.execute(0, packet(1))
    assert handlers.events() == []


def test_upcall_is_received_and_its_operations_are_its_own(handlers):
    data = packet(2)
    handlers.queued(data)
    handlers.stand_in.recv(1, data)
    handlers.stand_in.put(1)
    handlers.stand_in.execute(1, data)
    recv, put, execute = handlers.events()
    number = queue_id(data)
    assert (recv.ovs.type, recv.ovs.pkt_size, recv.ovs.key_size, recv.ovs.queue_id) == (0, len(data), 168, number)
    assert [event.ovs.batch_ts for event in (recv, put, execute)] == [recv.common.timestamp] * 3
    assert [(put.ovs.op_type, put.ovs.queue_id), (execute.ovs.op_type, execute.ovs.queue_id)] == [
        ("put", number),
        ("exec", number),
    ]
    assert recv.kernel is None
    assert recv.userspace.symbol == "dpif_recv:recv_upcall"
    assert recv.userspace.path.endswith("/ovs-vswitchd")
    assert recv.userspace.pid == recv.common.task.pid == handlers.stand_in.pid
    assert recv.userspace.tid == recv.common.task.tgid != handlers.stand_in.pid
    assert recv.common.task.comm == "handler1"
    assert handlers.returning()[number] == number


@pytest.mark.parametrize("size", [1, 63, 64])
def test_batch_of_any_size_keeps_its_order(handlers, size):
    packets = [packet(1000 * size + number) for number in range(size)]
    for data in packets:
        handlers.queued(data)
        handlers.stand_in.recv(0, data)
    for data in packets:
        handlers.stand_in.put(0)
        handlers.stand_in.execute(0, data)
    numbers = list(map(queue_id, packets))
    recvs = [("recv", number, at) for at, number in enumerate(numbers)]
    operations = [(kind, number, at) for at, number in enumerate(numbers) for kind in ("put", "exec")]
    assert handlers.told() == recvs + operations


def test_packet_that_nobody_waits_for_gives_no_event(handlers):
    """It did not match the filter: its place in the batch is counted all the same."""
    packets = [packet(number) for number in range(200, 206)]
    for number, data in enumerate(packets):
        if number % 2:
            handlers.queued(data)
        handlers.stand_in.recv(2, data)
    for data in packets:
        handlers.stand_in.put(2)
        handlers.stand_in.execute(2, data)
    told = handlers.told()
    assert told[:3] == [("recv", queue_id(packets[at]), at) for at in (1, 3, 5)]
    assert told[3:] == [(kind, queue_id(packets[at]), at) for at in (1, 3, 5) for kind in ("put", "exec")]


def test_execute_says_whose_it_is(handlers):
    """Upcalls without a flow to install, or with nothing to do at all, do not put others out of step."""
    a, b, c, d = (packet(number) for number in range(300, 304))
    for data in (a, b, c, d):
        handlers.queued(data)
        handlers.stand_in.recv(3, data)
    handlers.told()
    handlers.stand_in.execute(3, a)  # no flow
    handlers.stand_in.put(3)
    handlers.stand_in.execute(3, b)
    handlers.stand_in.execute(3, d)  # nothing at all for c
    numbers = list(map(queue_id, (a, b, c, d)))
    expected = [("exec", numbers[0], 0), ("put", numbers[1], 1), ("exec", numbers[1], 1), ("exec", numbers[3], 3)]
    assert handlers.told() == expected


def test_changed_packet_is_waited_for_as_what_it_is_now(handlers):
    before, after = packet(400), packet(401)
    handlers.queued(before)
    handlers.stand_in.recv(0, before)
    handlers.stand_in.execute(0, after)
    assert handlers.told() == [("recv", queue_id(before), 0), ("exec", queue_id(before), 0)]
    assert handlers.returning()[queue_id(after)] == queue_id(before)


def test_packets_alike_are_received_as_often_as_queued(handlers):
    data = packet(500)
    handlers.queued(data)
    handlers.queued(data)
    for handler in (0, 1, 2):
        handlers.stand_in.recv(handler, data)
    assert handlers.told() == [("recv", queue_id(data), 0)] * 2


def test_short_packet_is_padded_with_zeros(handlers):
    data = packet(600, 42)
    handlers.queued(data)
    handlers.stand_in.recv(0, data)
    assert handlers.told() == [("recv", queue_id(data), 0)]
    assert queue_id(data) == queue_id(data + bytes(22))


@pytest.mark.parametrize("headers", [42, 46, 54, 58, 62])
def test_segment_is_known_by_its_headers(handlers, headers):
    """The kernel half saw what was linear of it; user space has all of it, and sends back all of it."""
    data = packet(650 + headers)
    number = queue_id(data[:headers])
    handlers.queued(data[:headers])
    for handler in (0, 1):
        handlers.stand_in.recv(handler, data)
        handlers.stand_in.put(handler)
        handlers.stand_in.execute(handler, data)
    assert handlers.told() == [("recv", number, 0), ("put", number, 0), ("exec", number, 0)]
    assert handlers.returning()[queue_id(data)] == number


def test_handlers_at_work_at_once_do_not_mix(handlers):
    """The four take turns, call by call."""
    packets = {handler: [packet(7000 + 100 * handler + n) for n in range(20)] for handler in range(4)}
    for at in range(20):
        for handler in range(4):
            handlers.queued(packets[handler][at])
            handlers.stand_in.recv(handler, packets[handler][at])
    for at in range(20):
        for handler in range(4):
            handlers.stand_in.put(handler)
        for handler in range(4):
            handlers.stand_in.execute(handler, packets[handler][at])
    by_thread = {}
    for event in handlers.events():
        kind = getattr(event.ovs, "op_type", "recv")
        by_thread.setdefault(event.common.task.comm, []).append((kind, event.ovs.queue_id, event.ovs.batch_idx))
    for handler in range(4):
        numbers = list(map(queue_id, packets[handler]))
        expected = [("recv", number, at) for at, number in enumerate(numbers)]
        expected += [(kind, number, at) for at, number in enumerate(numbers) for kind in ("put", "exec")]
        assert by_thread[f"handler{handler}"] == expected


def test_build_without_probes_is_told_how_to_get_them(tmp_path):
    program = tmp_path / "ovs-vswitchd"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as running:
        process = UserProcess(running.pid)
        with pytest.raises(KernelError, match="USDT probe dpif_recv:recv_upcall in /") as error:
            plan_user(Ovs(), process)
        running.kill()
    assert "--enable-usdt-probes" in error.value.hint
    process.close()


def test_end_of_the_process_is_noticed(tmp_path):
    with StandIn(build(tmp_path), "script", 1) as stand_in:
        process = UserProcess(stand_in.pid)
        assert process.alive()
    wait_for(lambda: not process.alive(), "end of the process")
    process.close()


def test_probes_of_a_process_that_is_gone_are_not_given_back():
    """BCC 0.26 closes a file descriptor that is not its own then, or has a traceback at the interpreter's end."""
    code = """
import bcc, os, subprocess
bcc.USDT.__del__ = lambda self, write=os.write: write(1, b"given back")
from retis_py.kernel.usdt import UserProcess
running = subprocess.Popen(["sleep", "60"])
process = UserProcess(running.pid)
running.kill()
running.wait()
process.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_batch_without_operations_is_set_right_by_the_first_packet_executed(handlers):
    """docs/collectors/ovs.md: within a second the next batch counts as the same."""
    a, b, c = (packet(number) for number in (900, 901, 902))
    for data in (a, b, c):  # nothing comes of a
        handlers.queued(data)
        handlers.stand_in.recv(2, data)
    handlers.told()
    for data in (b, c):
        handlers.stand_in.put(2)
        handlers.stand_in.execute(2, data)
    numbers = list(map(queue_id, (a, b, c)))
    expected = [("put", numbers[0], 0), ("exec", numbers[1], 1), ("put", numbers[2], 2), ("exec", numbers[2], 2)]
    assert handlers.told() == expected


def test_batch_with_a_pause_of_more_than_a_second_is_two(handlers):
    a, b = packet(910), packet(911)
    for data in (a, b):
        handlers.queued(data)
        handlers.stand_in.recv(2, data)
        time.sleep(1.1 if data is a else 0)
    assert [place for *_, place in handlers.told()] == [0, 0]
    handlers.stand_in.put(2)
    handlers.stand_in.execute(2, a)
    assert handlers.told() == [("put", queue_id(b), 0), ("exec", queue_id(b), 0)]
