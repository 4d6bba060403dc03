"""inspect against what the kernel itself says, and against what collect then attaches."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.collect import retis

EVENTS = Path("/sys/kernel/tracing/events")
PATTERN = "ip_rc*"


def test_listed_probes_are_those_that_collect_attaches(collect) -> None:
    listed = retis("inspect", "-p", f"kprobe:{PATTERN}", "--names").stdout.splitlines()
    assert len(listed) > 2 and "kprobe:ip_rcv" in listed
    # the profile names a function that no kernel has: a warning, and the others work
    profile = collect().path.parent / "absent.yaml"
    profile.write_text(
        "version: 1.0\nname: absent\ncollect:\n  - args:\n"
        f"      probe: [nosuch_function, 'kprobe:{PATTERN}']\n      collectors: skb,dev,ns\n"
    )
    with collect(main=("--log-level", "debug", "-p", profile)) as run:
        pass
    assert "Skipping probe nosuch_function: Could not find a traceable function matching" in run.stderr
    loaded = int(re.search(r"(\d+) probe\(s\) loaded", run.stderr)[1])
    refused = len(re.findall(r"cannot attach|could not attach|Could not attach", run.stderr))
    assert loaded + refused == len(listed) + 3  # and three of tracking


def test_tracepoints_with_a_packet_are_those_whose_format_has_one() -> None:
    listed = set(retis("inspect", "-p", "tp:skb:*", "--names").stdout.split())
    with_address = {path.parent.name for path in (EVENTS / "skb").glob("*/format") if "skbaddr" in path.read_text()}
    assert {f"tp:skb:{name}" for name in with_address} <= listed
    assert "tp:skb:kfree_skb" in listed and len(listed) < 10


def test_system_page_says_yes_where_a_stock_kernel_has_it() -> None:
    done = retis("inspect", "--system")
    system, _, collectors = done.stdout.partition("\nCollectors\n")
    rows = dict(re.findall(r"^  ([\w-]+) +(yes|no|\?) ", system, re.M))
    assert re.search(r"^  skb-drop +yes ", collectors, re.M)
    for name in ("kernel", "BTF", "kprobes", "tracefs", "capabilities", "bcc", "libbpf", "libpcap", "nft"):
        assert rows[name] == "yes", done.stdout
    attach_multi = Path("/sys/kernel/tracing/dynamic_events").exists() and fprobe()
    assert rows["kprobe-multi"] == ("yes" if attach_multi else "no")
    cast = " bpf_rdonly_cast" in Path("/proc/kallsyms").read_text()
    assert rows["direct-reads"] == ("yes" if cast else "no")


def fprobe() -> bool:
    """CONFIG_FPROBE has functions of its own."""
    return " register_fprobe_ips" in Path("/proc/kallsyms").read_text()
