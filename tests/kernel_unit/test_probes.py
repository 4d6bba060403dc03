"""Probes: what -p says, and what that is on a kernel."""

from __future__ import annotations

import pytest

from retis_py.collectors import COLLECTORS
from retis_py.errors import ProbeError
from retis_py.kernel import plan as planning
from retis_py.kernel.btf import Parameter
from retis_py.kernel.compose import (
    HIT_FREE_ONLY,
    HIT_SILENT,
    HIT_STACK,
    TRACK_EXPAND,
    TRACK_FREE,
    TRACK_LAST,
    TRACK_NEVER_NEW,
    TRACK_PARTIAL,
)
from retis_py.kernel.plan import plan
from retis_py.kernel.probes import parse, resolve

SKB = Parameter("skb", "struct sk_buff *", 1, 1)
DEV = Parameter("dev", "struct net_device *", 2, 1)
REASON = Parameter("reason", "enum skb_drop_reason", 3, 0)
OTHER = Parameter("n", "unsigned int", 4, 0)


class FakeSystem:
    """A kernel with a handful of functions and tracepoints: names and prototypes only."""

    prototypes = {
        "ip_rcv": [SKB, DEV],
        "ip_rcv_core": [SKB],
        "schedule": [OTHER],
        "deep": [OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, SKB],
        "skb_free_head": [SKB],
        "kfree_skb_partial": [SKB, OTHER],
        "pskb_expand_head": [SKB, OTHER],
        "kfree_skbmem": [SKB],
    }
    events = {
        "skb:kfree_skb": [SKB, OTHER, REASON],
        "skb:consume_skb": [SKB],
        "net:netif_rx": [SKB],
        "kmem:kfree": [OTHER, OTHER],
        "kmem:kmem_cache_free": [OTHER, OTHER, OTHER],
        "net:net_dev_xmit": [SKB, OTHER],
    }

    def __init__(self, kprobes: bool = True, tracefs: bool = True) -> None:
        self.kprobes = kprobes
        lists = (frozenset(self.prototypes), frozenset(self.events)) if tracefs else (None, None)
        self.tracefs = type("Tracefs", (), dict(zip(("functions", "events"), lists)))
        by_name = {name.split(":")[1]: parameters for name, parameters in self.events.items()}
        self.types = type("Types", (), {"tracepoint": staticmethod(by_name.get)})
        self.function = self.prototypes.get

    def functions(self, names, types=None):
        known = {name: self.prototypes[name] for name in names if name in self.prototypes}
        taking = {name: ps for name, ps in known.items() if types is None or any(p.type in types for p in ps)}
        return taking, len(known)


def _collectors():
    # those that look at every packet: others need functions of their own
    return [kind() for kind in COLLECTORS if kind.hooks]


def _shapes(specs, system=None, **options):
    return {p.probe.name: p.shape for p in plan(specs, system or FakeSystem(), _collectors(), **options)}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ip_rcv", "kprobe:ip_rcv"),
        ("kprobe:ip_rcv", "kprobe:ip_rcv"),
        ("k:ip_rcv", "kprobe:ip_rcv"),
        ("kr:ip_rcv", "kretprobe:ip_rcv"),
        ("kretprobe:ip_rcv", "kretprobe:ip_rcv"),
        ("skb:kfree_skb", "tp:skb:kfree_skb"),
        ("tp:skb:kfree_skb", "tp:skb:kfree_skb"),
        ("raw_tracepoint:skb:kfree_skb", "tp:skb:kfree_skb"),
    ],
)
def test_probe_types_and_their_short_forms(text: str, name: str) -> None:
    assert [probe.name for probe in resolve(parse(text), FakeSystem())] == [name]


@pytest.mark.parametrize(
    "text",
    ["nosuch", "tp:kfree_*", "kprobe:skb:kfree_skb", "foo:kfree_skb", "", "kprobe:", "tp:", "tp:skb:", ":ip_rcv"],
)
def test_what_is_not_there_is_an_error(text: str) -> None:
    with pytest.raises(ProbeError, match="Could not find a"):
        resolve(parse(text), FakeSystem())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:b:c", "Invalid TYPE a"),
        ("ip_rcv/", "Empty options are not allowed"),
        ("ip_rcv/nosuch", "'nosuch' is an invalid probe option"),
        ("ip_rcv/stack/stack", "duplicate options detected in stack/stack"),
    ],
)
def test_malformed_probe_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ip_rcv*", {"kprobe:ip_rcv", "kprobe:ip_rcv_core"}),
        ("tp:skb:*", {"tp:skb:kfree_skb", "tp:skb:consume_skb"}),
        ("tp:*skb*", {"tp:skb:kfree_skb", "tp:skb:consume_skb"}),
        ("tp:*:netif_rx", {"tp:net:netif_rx"}),
    ],
)
def test_wildcards_match_all_of_a_name(text: str, names: set[str]) -> None:
    assert {probe.name for probe in resolve(parse(text), FakeSystem())} == names


def test_other_regex_characters_mean_themselves() -> None:
    with pytest.raises(ProbeError):
        resolve(parse("ip.rcv*"), FakeSystem())


def test_close_name_is_suggested() -> None:
    with pytest.raises(ProbeError) as error:
        resolve(parse("ip_rcvv"), FakeSystem())
    assert error.value.hint == "did you mean ip_rcv?"


def test_names_without_wildcard_need_no_tracefs() -> None:
    system = FakeSystem(tracefs=False)
    assert [p.name for p in resolve(parse("tp:net:netif_rx"), system)] == ["tp:net:netif_rx"]
    with pytest.raises(ProbeError, match="can't access files in tracefs"):
        resolve(parse("tp:net:*"), system)


def test_function_probe_without_kprobes_says_so() -> None:
    with pytest.raises(ProbeError, match="no kprobes"):
        resolve(parse("ip_rcv"), FakeSystem(kprobes=False))


def test_same_probe_twice_is_one_with_the_options_of_both() -> None:
    shapes = _shapes(["ip_rcv", "k:ip_rcv/stack"])
    assert shapes["kprobe:ip_rcv"].flags == HIT_STACK


def test_arguments_are_found_by_type() -> None:
    shapes = _shapes(["ip_rcv", "tp:skb:kfree_skb"])
    assert shapes["kprobe:ip_rcv"][1:5] == (0, 1, -1, -1)
    assert shapes["tp:skb:kfree_skb"].drop_reason == 2


def test_arguments_beyond_the_registers_are_absent() -> None:
    assert _shapes(["deep"])["kprobe:deep"].skb == -1


def test_useless_function_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="retis_py")
    assert "kprobe:schedule" not in _shapes(["schedule"])
    assert "No probe was attached to schedule as no collector could retrieve data from it" in caplog.text


def test_tracking_sees_where_data_is_freed_and_replaced() -> None:
    shapes = _shapes([])
    assert shapes["kprobe:skb_free_head"].flags == TRACK_FREE | HIT_FREE_ONLY
    assert shapes["kprobe:kfree_skb_partial"].flags == TRACK_FREE | TRACK_PARTIAL | HIT_FREE_ONLY
    assert shapes["kprobe:pskb_expand_head"].flags == TRACK_EXPAND | HIT_SILENT


def test_tracking_function_that_was_asked_for_reports_and_tracks() -> None:
    assert _shapes(["pskb_expand_head", "skb_free_head"])["kprobe:pskb_expand_head"].flags == TRACK_EXPAND
    assert _shapes(["pskb_expand_head", "skb_free_head"])["kprobe:skb_free_head"].flags == TRACK_FREE


def test_missing_tracking_function_is_tolerated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSystem, "prototypes", {"ip_rcv": [SKB, DEV]})
    assert set(_shapes(["ip_rcv"])) == {"kprobe:ip_rcv", "tp:skb:kfree_skb"}


def test_without_kprobes_packets_end_with_their_tracepoints() -> None:
    shapes = _shapes(["tp:net:netif_rx"], FakeSystem(kprobes=False))
    assert shapes["tp:skb:consume_skb"].flags == TRACK_FREE | TRACK_LAST | HIT_FREE_ONLY
    assert shapes["tp:skb:kfree_skb"].flags == TRACK_FREE | TRACK_LAST
    assert shapes["tp:kmem:kfree"] == shapes["tp:kmem:kmem_cache_free"]


@pytest.mark.parametrize("text", ["kfree_skbmem", "tp:net:net_dev_xmit", "kr:ip_rcv"])
def test_probes_that_may_see_released_packets_begin_no_identity(text: str) -> None:
    (name,) = [probe.name for probe in resolve(parse(text), FakeSystem())]
    assert _shapes([text])[name].flags == TRACK_NEVER_NEW


def test_profile_probe_that_is_missing_is_skipped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ProbeError):
        _shapes(["nosuch", "ip_rcv"])
    assert "kprobe:ip_rcv" in _shapes(["nosuch", "ip_rcv"], tolerant=True)
    assert "Skipping probe nosuch" in caplog.text


def test_probes_of_one_shape_share_a_program() -> None:
    shapes = _shapes(["tp:net:netif_rx", "ip_rcv_core"])
    assert shapes["tp:net:netif_rx"].type != shapes["kprobe:ip_rcv_core"].type
    assert len(set(_shapes(["tp:skb:consume_skb", "tp:net:netif_rx"]).values())) < len(
        _shapes(["tp:skb:consume_skb", "tp:net:netif_rx"])
    )
    assert planning.AUTOMATIC == ("tp:net:netif_receive_skb", "tp:net:net_dev_start_xmit")
