"""nft: which rule decided what."""

import logging
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from retis_py.cli import cli
from retis_py.collectors import Event
from retis_py.collectors import nft as subject
from retis_py.collectors.base import Unavailable
from retis_py.collectors.nft import VERDICTS, Nft
from retis_py.collectors.nft_rules import Rule
from retis_py.display import to_text
from retis_py.events.core import CommonSection
from retis_py.events.section import PLAIN
from tests.support.kernels import FakeKernel
from tests.support.oracle import STARTUP, oracle_texts

(SECTION,) = Nft.sections


def _nft(**changes):
    fields = {
        "table_name": "t",
        "chain_name": "c",
        "verdict": "accept",
        "table_handle": 1,
        "chain_handle": 2,
        "policy": False,
    }
    line = msgspec.json.encode({"common": {"timestamp": 2}, "nft": {**fields, **changes}})
    return msgspec.json.decode(line, type=Event).nft


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"policy": True}, "table t (1) chain c (2) accept (policy)"),
        (
            {"verdict": "jump", "rule_handle": 3, "verdict_chain_name": "d"},
            "table t (1) chain c (2) handle 3 jump chain d",
        ),
        ({"verdict": "drop", "rule_handle": 7}, "table t (1) chain c (2) handle 7 drop"),
    ],
)
def test_verdict_is_told_with_table_chain_and_rule(changes: dict[str, object], text: str) -> None:
    assert isinstance(_nft(), SECTION)
    assert _nft(**changes).text(PLAIN) == text


def test_names_never_carry_a_terminal_escape() -> None:
    assert "\x1b" not in _nft(table_name="\x1b[31mred", chain_name="a\nb").text(PLAIN)


def test_rule_is_printed_only_when_asked_for() -> None:
    section = _nft(verdict="drop", rule_handle=7, rule='log prefix "\x1b" drop')
    assert section.text(PLAIN) == "table t (1) chain c (2) handle 7 drop"
    shown = section.text(PLAIN._replace(nft_rules=True))
    assert shown == 'table t (1) chain c (2) handle 7 drop rule [log prefix "\\x1b" drop]'


def test_upstream_reads_an_event_with_the_text_of_a_rule(tmp_path: Path) -> None:
    section = _nft(verdict="drop", rule_handle=7, rule="udp dport 53 drop")
    event = Event(common=CommonSection(5), nft=section)
    file = tmp_path / "retis.data"
    file.write_bytes(b"".join(line + b"\n" for line in (msgspec.json.encode(STARTUP), msgspec.json.encode(event))))
    assert oracle_texts(file)[1] == to_text(event)
    assert "udp dport" not in to_text(event)


def _decoded(collector=None, target=(), **changes):
    values = {
        "table": b"t".ljust(128, b"\0"),
        "chain": b"c".ljust(128, b"\0"),
        "table_handle": 1,
        "chain_handle": 2,
        "rule_handle": 3,
        "net": 9,
        "verdict": 1,
        "policy": 0,
        **changes,
    }
    parts = ("nft", "nft_verdict_chain") if target else ("nft",)
    return (collector or Nft()).maker("nft", parts)(*values.values(), *target)


@pytest.mark.parametrize(("name", "code"), [*VERDICTS.items(), ("stop", 5), ("unknown", 6), ("unknown", -6)])
def test_every_verdict_has_its_name(name: str, code: int) -> None:
    assert _decoded(verdict=code).verdict == name


def test_policy_has_no_rule() -> None:
    section = _decoded(rule_handle=-1, policy=1, verdict=0)
    assert section.text(PLAIN) == "table t (1) chain c (2) drop (policy)"
    assert b"rule" not in msgspec.json.encode(section)


def test_jump_says_where_to() -> None:
    section = _decoded(verdict=-3, target=(b"d".ljust(128, b"\0"),))
    assert section.text(PLAIN) == "table t (1) chain c (2) handle 3 jump chain d"
    assert _decoded(verdict=-3, target=(bytes(128),)).verdict_chain_name is None


def test_names_of_any_length_and_bytes_cost_characters_not_the_event() -> None:
    section = _decoded(table=b"n" * 127 + b"\0", chain=b"\xff\n".ljust(128, b"\0"))
    assert (section.table_name, section.chain_name) == ("n" * 127, "\ufffd\n")
    # a character cut in two by the kernel's copy
    assert _decoded(table=b"n" * 126 + b"\xc3\0").table_name == "n" * 126 + "\ufffd"


class Known:
    """Texts of rules: *rule* is there from the second time on."""

    def __init__(self, rule):
        self.rule, self.asked = rule, []

    def find(self, *key):
        self.asked.append(key)
        return self.rule if len(self.asked) > 1 else None


def test_text_of_a_rule_is_looked_for_until_it_is_known() -> None:
    collector = Nft()
    collector._rules = known = Known(Rule("drop", "c", 2))
    assert [_decoded(collector).rule for _ in range(4)] == [None, "drop", "drop", "drop"]
    assert known.asked == [(9, 1, 3)] * 2
    assert _decoded(collector, rule_handle=-1).rule is None and len(known.asked) == 2


def test_chain_too_long_to_walk_is_named_by_its_rule() -> None:
    collector = Nft()
    collector._rules = Known(Rule("drop", "long", 12))
    unknown, known = (_decoded(collector, chain=bytes(128), chain_handle=-1) for _ in range(2))
    assert (unknown.chain_name, unknown.chain_handle) == ("?", -1)
    assert (known.chain_name, known.chain_handle) == ("long", 12)


FUNCTION = "__nft_trace_packet"


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (FakeKernel(kprobes=False, functions={FUNCTION: []}), "this kernel has no kprobes"),
        (FakeKernel(config={}), "this kernel does not support nftables (CONFIG_NF_TABLES)"),
        (FakeKernel(config={"CONFIG_NF_TABLES": "m"}), "Kernel module 'nf_tables' is not loaded"),
        (FakeKernel(), "Kernel module 'nf_tables' is not loaded"),
        (FakeKernel(modules=("nf_tables",)), "this kernel's BTF has no function __nft_trace_packet"),
        (FakeKernel(functions={FUNCTION: []}), None),
    ],
)
def test_reason_not_to_run_is_exact(kernel: FakeKernel, reason: "str | None") -> None:
    if reason is None:
        Nft().check(kernel)
        return
    with pytest.raises(Unavailable) as caught:
        Nft().check(kernel)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("names", "bits"),
    [(("drop", "accept"), 0x60), (("all",), 0x3FF), (("drop", "all"), 0x3FF), (("return",), 1), (("repeat",), 0x200)],
)
def test_verdicts_become_the_bits_the_bpf_side_looks_at(names: tuple[str, ...], bits: int) -> None:
    collector = Nft()
    collector.setup(FakeKernel(), {"nft_verdicts": names})
    assert collector.defines()["NFT_VERDICTS"] == bits


def test_rules_that_are_not_on_this_kernel_are_not_asked_of_btf() -> None:
    collector = Nft()
    collector.setup(FakeKernel(missing=("nft_rule_dp_last.chain", "nft_traceinfo.pkt")), {})
    assert "nft_rule_dp_last" not in collector.members and "nft_traceinfo" in collector.members
    assert (collector.defines()["HAVE_NFT_RULE_LAST"], collector.defines()["HAVE_NFT_INFO_PKT"]) == (0, 0)


def test_without_consent_the_user_is_told_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Nft().setup(FakeKernel(), {})
    assert "If an nft trace rule wasn't manually added nft events won't be reported" in caplog.text


def test_without_nft_there_can_be_no_system_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "find_nft", lambda: None)
    with pytest.raises(Unavailable, match="nft binary not available"):
        Nft().setup(FakeKernel(), {"allow_system_changes": True})
    # but events can be reported: somebody else's trace rule may be there
    collector = Nft()
    collector.setup(FakeKernel(), {})
    collector.start()
    assert _decoded(collector).rule is None
    collector.stop()


def test_stop_removes_the_rule_even_if_start_failed() -> None:
    done = []

    class Trace:
        def clean_up(self):
            done.append("clean up")

        def install(self):
            done.append("install")
            raise RuntimeError("half-way")

        def remove(self):
            done.append("remove")

    collector = Nft()
    collector.setup(FakeKernel(), {"allow_system_changes": True})
    collector._trace = Trace()
    with pytest.raises(RuntimeError):
        collector.start()
    collector.stop()
    assert done == ["clean up", "install", "remove"]


@pytest.mark.parametrize("value", ["drop,maybe", "", "DROP"])
def test_verdict_that_does_not_exist_is_a_usage_error(value: str) -> None:
    done = CliRunner().invoke(cli, ["collect", "--nft-verdicts", value])
    assert done.exit_code == 2 and "is not one of all, return, goto" in " ".join(done.output.split())
