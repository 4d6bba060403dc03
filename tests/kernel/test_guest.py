"""The guest itself: what every other kernel test takes for granted."""

from pathlib import Path

import pytest

from tests.support.namespaces import run

MODULES = ["8021q", "bridge", "nf_conntrack", "nf_tables", "veth", "vxlan"]


def test_kernel_has_btf():
    assert Path("/sys/kernel/btf/vmlinux").stat().st_size > 1_000_000


def test_tracefs_lists_functions_and_events():
    tracefs = Path("/sys/kernel/tracing")
    assert "\nip_rcv\n" in (tracefs / "available_filter_functions").read_text()
    assert "skb:kfree_skb\n" in (tracefs / "available_events").read_text()


@pytest.mark.parametrize("module", MODULES)
def test_module_is_loaded(module):
    assert f"{module} " in Path("/proc/modules").read_text()


def test_statistics_of_programs_can_be_enabled():
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    switch.write_text("1")
    assert switch.read_text() == "1\n"
    switch.write_text("0")


def test_handshake_and_close_are_nine_packets(two_ns, tmp_path):
    """The traffic that other tests count, counted by tcpdump."""
    two_ns.forget_neighbours()
    with two_ns.b.tcpdump(tmp_path / "nine.pcap", "veth-b", "arp or tcp", count=9):
        two_ns.tcp(80)
    lines = run("tcpdump", "-nntr", tmp_path / "nine.pcap").splitlines()
    flags = [line.split("Flags [")[1].split("]")[0] for line in lines if "Flags" in line]
    assert flags == ["S", "S.", ".", "F.", ".", "F.", "."]


def test_router_translates(three_ns, tmp_path):
    with three_ns.server.tcpdump(tmp_path / "dnat.pcap", "server0", "icmp", count=2):
        three_ns.client.ping(three_ns.VIRTUAL)
    assert "10.0.1.1 > 10.0.2.2: ICMP echo request" in run("tcpdump", "-nntr", tmp_path / "dnat.pcap")
