"""ovs: text of upcalls, actions and flow look-ups, and their form in files."""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from retis_py.collectors.base import Unavailable
from retis_py.collectors.ovs import (
    Ovs,
    OvsDetraceSection,
    OvsFlowLookup,
    OvsSection,
    calls,
    ufid_text,
)
from retis_py.collectors.ovs_queue import jhash, queue_id
from retis_py.errors import MalformedEvent, RetisError
from retis_py.events.section import PLAIN, Style
from retis_py.kernel.cpus import possible_cpus
from retis_py.paths import bpf_dir
from tests.support.kernels import FakeKernel

SINGLE = Style(multi_line=False)
UFID = (0x177746CC, 0x5E954C23, 0x8D4096D5, 0xBEE7C6EB)
UFID_TEXT = "177746cc-5e95-4c23-8d40-96d5bee7c6eb"


def ovs(kind: str, **fields: Any) -> Any:
    return msgspec.convert({"event_type": kind, **fields}, OvsSection)


def action(name: str | None, recirc_id: int = 0, **fields: Any) -> str:
    given = {"action": name, "recirc_id": recirc_id, **fields}
    text: str = ovs("action_execute", **given).text(PLAIN)
    return text


@pytest.mark.parametrize(
    ("section", "text"),
    [
        (ovs("upcall", cmd=1, port=7, cpu=2), "upcall (miss) port 7 cpu 2"),
        (ovs("upcall", cmd=0, port=7, cpu=2), "upcall (unspec) port 7 cpu 2"),
        (ovs("upcall", cmd=4, port=7, cpu=2), "upcall port 7 cpu 2"),
        (
            ovs("upcall_enqueue", ret=-1, cmd=2, port=7, upcall_ts=100, upcall_cpu=2, queue_id=9),
            "upcall_enqueue (action) (2/100) q 9 ret -1",
        ),
        (ovs("upcall_return", upcall_ts=100, upcall_cpu=2, ret=0), "upcall_ret (2/100) ret 0"),
        (
            ovs("recv_upcall", type=1, pkt_size=98, key_size=3, queue_id=9, batch_ts=1, batch_idx=0),
            "upcall_recv q 9 pkt_size 98",
        ),
        (
            ovs("flow_operation", op_type="put", queue_id=9, batch_ts=100, batch_idx=1),
            "flow_put q 9 ts 100 (1)",
        ),
        (
            ovs("flow_operation", op_type="exec", queue_id=9, batch_ts=100, batch_idx=1),
            "flow_exec q 9 ts 100 (1)",
        ),
        (OvsFlowLookup(0, 0, (0, 0, 0, 0), 3, 0, "", ()), "flow miss mask 3 cache 0"),
    ],
)
def test_text(section: Any, text: str) -> None:
    assert section.text(PLAIN) == text


@pytest.mark.parametrize(
    ("text", "given"),
    [
        (
            "[recirc_id 0x5] exec oport 3 q 9",
            {"name": "output", "port": 3, "recirc_id": 5, "queue_id": 9},
        ),
        ("exec recirc 0x1f", {"name": "recirc", "id": 31}),
        ("exec drop 1", {"name": "drop", "reason": 1}),
        ("exec tunnel_set", {"name": "set"}),
        ("exec dec_ttl", {"name": "dec_ttl"}),
        ("exec unspec", {"name": None}),
        ("exec unspec", {"name": "of tomorrow"}),
        ("exec unspec", {"name": "output"}),  # without its port
        ("exec ct zone 5", {"name": "ct", "flags": 0, "zone_id": 5}),
        (
            "exec ct zone 5 commit,force,persistent,hash,random",
            {"name": "ct", "flags": 0xE03, "zone_id": 5},
        ),
        (
            "exec ct zone 5 nat(dst=10.244.1.3-10.244.1.30:36895-36900) commit",
            {
                "name": "ct",
                "flags": 0x181,
                "zone_id": 5,
                "nat": {
                    "dir": "dst",
                    "min_addr": "10.244.1.3",
                    "max_addr": "10.244.1.30",
                    "min_port": 36895,
                    "max_port": 36900,
                },
            },
        ),
        (
            "exec ct zone 5 nat(src=1.1.1.1) commit",
            {
                "name": "ct",
                "flags": 0x81,
                "zone_id": 5,
                "nat": {"dir": "src", "min_addr": "1.1.1.1", "max_addr": "1.1.1.1"},
            },
        ),
        ("exec ct zone 5 nat", {"name": "ct", "flags": 0x180, "zone_id": 5, "nat": {}}),
    ],
)
def test_action_text(text: str, given: dict[str, Any]) -> None:
    assert action(**given) == text


def test_flow_hit_lists_its_flows() -> None:
    hit = OvsFlowLookup(0xFFFF8E95, 0xFFFF8E96, UFID, 3, 1, "in_port(1)", ("table=0", "table=1"))
    head = f"flow hit ufid {UFID_TEXT} mask 3 cache 1 flow ffff8e95 sf_acts ffff8e96"
    assert hit.text(PLAIN) == f"{head}\nodpflow in_port(1)\nopenflow\n    table=0\n    table=1"
    assert hit.text(SINGLE) == f"{head} odpflow in_port(1) openflow table=0 table=1"


def test_detrace_glues_the_first_flow() -> None:
    section = OvsDetraceSection(UFID, 1, 2, "dp", ("a", "b"))
    assert section.text(PLAIN) == f"ufid:{UFID_TEXT} dp\nopenflow:a\n    b"
    assert section.text(SINGLE) == f"ufid:{UFID_TEXT} dp openflow: a b"


def test_ufid_text() -> None:
    assert ufid_text(UFID) == UFID_TEXT


@pytest.mark.parametrize(
    "line",
    [
        '{"cmd":1,"cpu":0,"event_type":"upcall","port":4195744766}',
        '{"action":"output","event_type":"action_execute","port":2,"queue_id":1361394472,"recirc_id":0}',
        '{"event_type":"upcall_return","ret":0,"upcall_cpu":0,"upcall_ts":61096236973661}',
        '{"batch_idx":0,"batch_ts":61096237019698,"event_type":"flow_operation","op_type":"exec","queue_id":3316322986}',
        '{"action":"drop","event_type":"action_execute","reason":0,"recirc_id":32}',
        '{"action":"ct","event_type":"action_execute","flags":485,"nat":{"dir":"dst","max_addr":"10.244.1.30",'
        '"max_port":36900,"min_addr":"10.244.1.3","min_port":36895},"recirc_id":34,"zone_id":20}',
    ],
)
def test_json_round_trip(line: str) -> None:
    section = msgspec.json.decode(line, type=OvsSection)
    assert msgspec.json.decode(msgspec.json.encode(section)) == msgspec.json.decode(line)


#: enum ovs_action_attr of Linux 6.12, in part
ENUM = {"UNSPEC": 0, "OUTPUT": 1, "RECIRC": 7, "CT": 12, "DROP": 24, "PSAMPLE": 25, "SET_TO_MASKED": 27}
LOADED = FakeKernel(
    {"ovs_action_attr": {f"OVS_ACTION_ATTR_{name}": value for name, value in ENUM.items()}},
    tracepoints={"ovs_dp_upcall": []},
    functions={"ovs_flow_tbl_lookup_stats": ["tbl", "key", "skb_hash", "n_mask_hit", "n_cache_hit"]},
)


def collector() -> Ovs:
    made = Ovs()
    made.check(LOADED)
    made.setup(LOADED, {})
    return made


def made(*values: Any, parts: tuple[str, ...] = ("ovs_action",)) -> Any:
    return collector().maker("ovs", parts)(*values)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0, 0, 3, 1, 0), "exec oport 3"),
        ((5, 9, 3, 1, 1), "[recirc_id 0x5] exec oport 3 q 9"),
        ((0, 0, 31, 7, 0), "exec recirc 0x1f"),
        ((0, 0, 4, 24, 0), "exec drop 4"),
        ((0, 0, 0, 27, 0), "exec set_masked"),
        ((0, 0, 0, 0, 0), "exec unspec"),
        ((0, 0, 0, 25, 0), "exec unspec"),  # psample: not in the file format
        ((0, 0, 0, 99, 0), "exec unspec"),
    ],
)
def test_raw_action_becomes_its_section(values: tuple[int, ...], text: str) -> None:
    assert made(*values).text(PLAIN) == text


V4, V6 = bytes([10, 244, 1, 3]), bytes.fromhex("20010db8000000000000000000000001")
FLAGS = {"commit": 1, "v4": 4, "v6": 8, "nat": 16, "src": 32, "dst": 64, "ips": 128, "ports": 256}


@pytest.mark.parametrize(
    ("flags", "addresses", "text"),
    [
        ("", (b"", b""), "ct zone 7"),
        ("commit", (b"", b""), "ct zone 7 commit"),
        ("nat", (b"", b""), "ct zone 7 nat"),
        ("commit v4 nat src ips", (V4, V4), "ct zone 7 nat(src=10.244.1.3) commit"),
        (
            "commit v4 nat dst ips ports",
            (V4, bytes([10, 244, 1, 30])),
            "ct zone 7 nat(dst=10.244.1.3-10.244.1.30:1000-2000) commit",
        ),
        ("v6 nat dst ips", (V6, V6), "ct zone 7 nat(dst=2001:db8::1)"),
    ],
)
def test_raw_connection_tracking_becomes_its_section(flags: str, addresses: Any, text: str) -> None:
    bits = sum(FLAGS[name] for name in flags.split())
    low, high = (address.ljust(16, b"\0") for address in addresses)
    section = made(0, 0, 0, 12, 0, low, high, bits, 7, 1000, 2000, parts=("ovs_action", "ovs_ct"))
    assert section.text(PLAIN) == f"exec {text}"


def test_parts_that_cannot_come_together_are_refused() -> None:
    with pytest.raises(MalformedEvent, match="ovs_upcall and ovs_lookup do not come together"):
        collector().maker("ovs", ("ovs_upcall", "ovs_lookup"))


def test_missing_module_is_named() -> None:
    with pytest.raises(Unavailable, match="kernel module 'openvswitch' is not loaded") as reason:
        Ovs().check(FakeKernel())
    assert reason.value.hint == "modprobe openvswitch"
    with pytest.raises(Unavailable, match="no tracepoints or no BTF"):
        Ovs().check(FakeKernel(modules=("openvswitch",)))


def test_without_kprobes_tracepoints_are_left() -> None:
    kernel = FakeKernel(tracepoints={"ovs_dp_upcall": []})
    kernel.kprobes = False
    reduced = Ovs()
    reduced.setup(kernel, {})
    assert set(reduced.probes()) == {"tp:openvswitch:ovs_dp_upcall", "tp:openvswitch:ovs_do_execute_action"}


def test_process_must_be_there_once(tmp_path: Path) -> None:
    program = tmp_path / "ovs-vswitchd"
    shutil.copy("/bin/sleep", program)
    with pytest.raises(RetisError, match="process ovs-vswitchd not found"):
        Ovs().setup(LOADED, {"ovs_track": True})
    with subprocess.Popen([program, "60"]) as first:
        one = Ovs()
        _wait_for_name(first.pid, "ovs-vswitchd")
        one.setup(LOADED, {"ovs_track": True})
        assert one.process() == first.pid
        with subprocess.Popen([program, "60"]) as second:
            _wait_for_name(second.pid, "ovs-vswitchd")
            pids = ", ".join(map(str, sorted((first.pid, second.pid))))
            with pytest.raises(RetisError, match=f"too many processes ovs-vswitchd found: {pids}"):
                Ovs().setup(LOADED, {"ovs_track": True})
            second.kill()
            os.waitid(os.P_PID, second.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet waited for
            left = Ovs()
            left.setup(LOADED, {"ovs_track": True})
            assert left.process() == first.pid
        first.kill()


def test_process_that_watches_over_the_other_is_not_meant(tmp_path: Path) -> None:
    """ovs-vswitchd --monitor"""
    program = tmp_path / "ovs-vswitchd"
    shutil.copy("/bin/bash", program)
    with subprocess.Popen([program, "-c", f"{program} -c 'while :; do :; done' & wait"]) as monitor:
        children = Path(f"/proc/{monitor.pid}/task/{monitor.pid}/children")
        while not children.read_text() or "ovs-vswitchd" not in Path(f"/proc/{monitor.pid}/comm").read_text():
            pass
        child = int(children.read_text())
        _wait_for_name(child, "ovs-vswitchd")
        one = Ovs()
        one.setup(LOADED, {"ovs_track": True})
        assert one.process() == child
        os.kill(child, signal.SIGKILL)


def _wait_for_name(pid: int, name: str) -> None:
    while Path(f"/proc/{pid}/comm").read_text().strip() != name:
        pass


#: of the kernel's own jhash() in C
VECTORS = [
    (b"", 0, 0xDEADBEEF),
    (bytes(range(1)), 0, 0x8BA9414B),
    (bytes(range(4)), 0, 0xE4CF1D42),
    (bytes(range(12)), 0, 0x5E4AA593),
    (bytes(range(13)), 0, 0xBC9D6816),
    (bytes(range(30)), 0, 0x308ED059),
    (bytes(range(60)), 0, 0xF9BEC400),
    (bytes(range(64)), 0, 0x9FF036CC),
    (bytes(64), 0, 0xD086904F),
    (b"\xff" * 64, 0, 0xEB9FA151),
    (bytes(range(30)), 7, 0xBC6BF121),
]


@pytest.mark.parametrize(("data", "initval", "expected"), VECTORS)
def test_hash_is_the_kernels(data: bytes, initval: int, expected: int) -> None:
    assert jhash(data, initval) == expected


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_queue_id_is_that_of_the_bpf_side(tmp_path: Path) -> None:
    """The C of bpf/collectors/ovs.bpf.c, compiled here."""
    text = (bpf_dir() / "collectors/ovs.bpf.c").read_text()
    start, end = text.index("#define OVS_ROL"), text.index("/* The first bytes of *skb*")
    enums = "enum { OVS_HASHED = 64 }; enum { OVS_WORDS = OVS_HASHED / 4 };"
    source = tmp_path / "hash.c"
    source.write_text(
        f"#include <stdio.h>\ntypedef unsigned u32;\n#define __always_inline inline\n{enums}\n{text[start:end]}\n"
        'int main(void) { u32 w[16]; while (fread(w, 64, 1, stdin)) printf("%u\\n", ovs_hash(w)); return 0; }\n'
    )
    program = tmp_path / "hash"
    subprocess.run(["gcc", "-w", "-o", program, source], check=True)
    packets = [struct.pack("<16I", *(seed * n & 0xFFFF_FFFF for n in range(16))) for seed in (0, 1, 77, 0x9E3779B9)]
    done = subprocess.run([program], input=b"".join(packets), capture_output=True, check=True)
    assert list(map(int, done.stdout.split())) == list(map(queue_id, packets))


def test_probes_of_the_stand_in_are_those_we_want() -> None:
    source = (Path(__file__).parents[1] / "support" / "vswitchd.c").read_text()
    in_source = {f"{a}:{b}" for a, b in re.findall(r"DTRACE_PROBE\d?\((\w+), (\w+)", source)}
    assert set(Ovs.user_probes) < in_source


def test_tables_have_room_for_each_cpu_the_kernel_may_have(tmp_path: Path) -> None:
    for listed, cpus in (("0", 1), ("0-3", 4), ("0,2-15", 16)):
        (tmp_path / "possible").write_text(f"{listed}\n")
        assert possible_cpus(tmp_path / "possible") == cpus
    assert calls(64) - 64 * 128 >= 1024
