"""Collectors that cannot run on this kernel: passed over in silence, or refused with the reason."""

from pathlib import Path

import pytest

from tests.support.collect import retis
from tests.support.tracing import has_kprobes

#: collector -> why it cannot run here, what to do about it, and whether it can
REASONS = {
    "nft": ("this kernel has no kprobes", "", has_kprobes),
    "ovs": (
        "kernel module 'openvswitch' is not loaded",
        "modprobe openvswitch",
        lambda: Path("/sys/module/openvswitch").exists(),
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_collector_that_cannot_run_is_told_if_asked_for_and_else_at_level_debug_only(name):
    reason, hint, can_run = REASONS[name]
    if can_run():
        pytest.skip(f"{name} can run here")
    told = f"Cannot run collector {name}: {reason}"
    named = retis("collect", "-c", name, "--show-bpf")
    assert (named.returncode, named.stdout) == (1, "")
    assert [line for line in named.stderr.splitlines() if line] == [
        f"Error: {told}",
        *([f"Hint: {hint}"] if hint else []),
    ]
    with_auto = retis("collect", "-c", f"auto,{name}", "--show-bpf")
    assert (with_auto.returncode, told in with_auto.stderr) == (1, True)
    quiet = retis("collect", "--show-bpf")
    assert quiet.returncode == 0
    assert "Cannot run" not in quiet.stderr
    (started,) = [line for line in quiet.stderr.splitlines() if "Collector(s) started" in line]
    assert name not in started.partition(": ")[2].split(", ")
    loud = retis("--log-level", "debug", "collect", "--show-bpf")
    assert loud.returncode == 0
    assert loud.stderr.count(told) == 1
