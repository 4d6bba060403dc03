"""Which probes are found, and what is said of them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from retis_py.errors import ProbeError
from retis_py.inspect.probes import find_probes, useful_types, why_incomplete
from retis_py.kernel.probes import Probe
from tests.kernel_unit.test_probes import OTHER, SKB, FakeSystem


class Kernel(FakeSystem):
    """Names come from kallsyms where tracefs does not give them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        names = [*self.prototypes, *(f"__traceiter_{name.split(':')[1]}" for name in self.events)]
        self.symbols = type("Symbols", (), {"table": dict.fromkeys(names, (0, None))})


def lines(pattern: str, **options: Any) -> list[str]:
    return [probe.line() for probe in find_probes(pattern, Kernel(**options))]  # type: ignore[arg-type]


def test_functions_and_tracepoints_without_a_type() -> None:
    assert lines("*skb") == ["tp:skb:consume_skb  struct sk_buff *skb", lines("tp:skb:kfree_skb")[0]]
    assert lines("ip_rcv*") == [
        "kprobe:ip_rcv  struct sk_buff *skb, struct net_device *dev",
        "kprobe:ip_rcv_core  struct sk_buff *skb",
    ]


def test_only_arguments_that_collectors_use_are_shown() -> None:
    assert lines("tp:skb:kfree_skb") == ["tp:skb:kfree_skb  struct sk_buff *skb, enum skb_drop_reason reason"]
    assert "unsigned int" not in "".join(lines("*"))
    assert {"struct sk_buff *", "struct net_device *", "struct net *"} <= useful_types()


def test_a_function_whose_packet_is_not_in_a_register_is_left_out() -> None:
    names = [line.split()[0] for line in lines("k:*")]
    assert "kprobe:ip_rcv" in names and "kprobe:deep" not in names and "kprobe:schedule" not in names


def test_arguments_end_where_those_of_collect_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the registers of this machine, not a number of inspect's own."""
    last = Probe("kprobe", "f", ()).visible
    monkeypatch.setitem(Kernel.prototypes, "within", [OTHER] * (last - 1) + [SKB])
    monkeypatch.setitem(Kernel.prototypes, "beyond", [OTHER] * last + [SKB])
    assert lines("k:within") == ["kprobe:within  struct sk_buff *skb"]
    with pytest.raises(ProbeError):
        lines("k:beyond")


def test_names_are_sorted() -> None:
    assert lines("*") == sorted(lines("*")) and len(lines("*")) > 8


def test_without_tracefs_names_come_from_the_symbols_and_groups_are_unknown() -> None:
    assert lines("kfree_skb", tracefs=False) == [
        "tp:*:kfree_skb  struct sk_buff *skb, enum skb_drop_reason reason",
    ]
    assert lines("ip_rcv", tracefs=False) == lines("ip_rcv")
    doubt = why_incomplete(Kernel(tracefs=False))  # type: ignore[arg-type]
    assert doubt and "some may refuse a probe" in doubt and "group of a tracepoint is not known" in doubt
    assert why_incomplete(Kernel()) is None  # type: ignore[arg-type]


def test_without_kprobes_there_are_no_functions(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert [line.split()[0] for line in lines("*", kprobes=False)] == [
            *("tp:net:net_dev_xmit", "tp:net:netif_rx", "tp:skb:consume_skb", "tp:skb:kfree_skb"),
        ]
    assert "no kprobes" in caplog.text
    with pytest.raises(ProbeError, match="no kprobes"):
        lines("k:ip_rcv", kprobes=False)


def test_nothing_found_is_an_error_with_a_way_out() -> None:
    with pytest.raises(ProbeError, match="matching 'nosuch'") as caught:
        lines("nosuch")
    assert caught.value.hint and "retis inspect" in caught.value.hint
