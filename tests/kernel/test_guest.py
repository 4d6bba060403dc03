"""The guest itself: what every other kernel test takes for granted."""

from pathlib import Path

import pytest

MODULES = ["8021q", "bridge", "nf_conntrack", "nf_tables", "openvswitch", "veth", "vxlan"]


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
