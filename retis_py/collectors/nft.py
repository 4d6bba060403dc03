"""nft: verdicts of nftables rules.  BPF side: bpf/collectors/nft.bpf.c

The text of rules comes from `retis_py.collectors.nft_rules`, the rule that turns tracing on from
`retis_py.collectors.nft_trace`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Optional

from retis_py.collectors.base import Collector, Kernel, Unavailable
from retis_py.collectors.nft_rules import Namespaces, RuleTexts, find_nft
from retis_py.collectors.nft_trace import TraceRule
from retis_py.events.raw import Raw, char, pad, s32, s64, u8, u64
from retis_py.events.section import I64, Section, Style
from retis_py.events.visible import visible
from retis_py.events.wire import text

__all__ = ["VERDICTS", "Nft", "NftSection"]

_log = logging.getLogger(__name__)

_FUNCTION = "__nft_trace_packet"
_PROBE = f"kprobe:{_FUNCTION}"

#: verdict codes by name: enum nft_verdicts (include/uapi/linux/netfilter/nf_tables.h), then NF_DROP and what follows
#: it (include/uapi/linux/netfilter.h)
VERDICTS = {
    "return": -5,
    "goto": -4,
    "jump": -3,
    "break": -2,
    "continue": -1,
    "drop": 0,
    "accept": 1,
    "stolen": 2,
    "queue": 3,
    "repeat": 4,
}
_NAMES = {**{code: name for name, code in VERDICTS.items()}, 5: "stop"}
#: sections remembered: a busy chain gives the same few over and over
_REMEMBERED = 4096


class NftRaw(Raw):
    """A verdict; the kernel's names (NFT_NAME_MAXLEN, 256) are cut to 127 bytes, as upstream cuts them."""

    _fields_ = [
        ("table", char * 128),
        ("chain", char * 128),
        ("table_handle", s64),
        # -1: the chain could not be found
        ("chain_handle", s64),
        # -1: of no rule
        ("rule_handle", s64),
        # cookie of the namespace, its inode number where there are no cookies
        ("net", u64),
        ("verdict", s32),
        ("policy", u8),
        ("_pad", pad * 3),
    ]


class NftVerdictChainRaw(Raw):
    """Where jump and goto lead."""

    _fields_ = [("name", char * 128)]


class NftSection(Section, kw_only=True):
    """A verdict of a rule or of a chain's policy. *rule* is the text of the rule, an extension of retis_py."""

    key: ClassVar[str] = "nft"
    #: the table
    table_name: str
    #: the chain
    chain_name: str
    #: continue break jump goto return drop accept stolen queue repeat stop unknown
    verdict: str
    #: where ``jump`` and ``goto`` lead
    verdict_chain_name: Optional[str] = None
    #: its handle
    table_handle: I64
    #: its handle
    chain_handle: I64
    #: None when the verdict comes from no rule
    rule_handle: Optional[I64] = None
    #: the verdict is the policy of the chain
    policy: bool
    #: as ``nft`` lists it, counters' values left out; None also where that could not be found out
    rule: Optional[str] = None

    def text(self, style: Style) -> str:
        text = (
            f"table {visible(self.table_name)} ({self.table_handle})"
            f" chain {visible(self.chain_name)} ({self.chain_handle})"
        )
        if self.rule_handle is not None:
            text += f" handle {self.rule_handle}"
        text += f" {visible(self.verdict)}"
        if self.policy:
            text += " (policy)"
        if self.verdict_chain_name is not None:
            text += f" chain {visible(self.verdict_chain_name)}"
        if style.nft_rules and self.rule is not None:
            text += f" rule [{visible(self.rule)}]"
        return text


class Nft(Collector):
    """Reports verdicts of nftables."""

    name = "nft"
    sections = (NftSection,)
    layouts = {"nft": {"nft": NftRaw, "nft_verdict_chain": NftVerdictChainRaw}}
    reads = ("struct nft_traceinfo *",)
    members = {
        "nft_traceinfo": ("basechain", "pkt", "rule", "verdict"),
        "nft_pktinfo": ("skb", "state"),
        "nf_hook_state": ("net",),
        "net": ("ns.inum", "net_cookie"),
        "nft_base_chain": ("policy", "chain"),
        "nft_chain": ("table", "handle", "name", "blob_gen_0", "blob_gen_1"),
        "nft_table": ("handle", "name"),
        "nft_verdict": ("code", "chain"),
        "nft_rule": ("handle",),
        # not on every kernel
        "nft_rule_blob": ("size", "data"),
        "nft_rule_dp": ("is_last", "dlen", "handle"),
        "nft_rule_dp_last": ("chain",),
    }
    arguments = {
        "nft_info": ("struct nft_traceinfo *",),
        "nft_pkt": ("struct nft_pktinfo *",),
        "nft_chain": ("struct nft_chain *",),
        "nft_rule": ("struct nft_rule_dp *",),
        "nft_verdict": ("struct nft_verdict *",),
        "nft_type": ("enum nft_trace_types",),
    }
    targeted = {_PROBE: ("nft",)}
    contexts = {_PROBE: "nft_context"}

    def __init__(self) -> None:
        super().__init__()
        self._trace: Optional[TraceRule] = None
        self._rules: Optional[RuleTexts] = None
        self._change = False
        self._sections: dict[tuple[Any, ...], NftSection] = {}

    def check(self, kernel: Kernel) -> None:
        if not kernel.kprobes:
            raise Unavailable("this kernel has no kprobes")
        if kernel.config("CONFIG_NF_TABLES") == "n":
            raise Unavailable("this kernel does not support nftables (CONFIG_NF_TABLES)")
        if kernel.types.function(_FUNCTION) is None:
            if kernel.config("CONFIG_NF_TABLES") != "y" and not kernel.module_loaded("nf_tables"):
                raise Unavailable("Kernel module 'nf_tables' is not loaded", hint="modprobe nf_tables")
            raise Unavailable(f"this kernel's BTF has no function {_FUNCTION}")
        if not kernel.has_symbol(_FUNCTION):
            raise Unavailable(f"could not resolve symbol {_FUNCTION}")

    def setup(self, kernel: Kernel, options: Mapping[str, Any]) -> None:
        has = kernel.types.has_member
        cookies = has("net", "net_cookie")
        self._defines = {
            "HAVE_NFT_INFO_PKT": int(has("nft_traceinfo", "pkt")),
            "HAVE_NFT_INFO_RULE": int(has("nft_traceinfo", "rule")),
            "HAVE_NFT_INFO_VERDICT": int(has("nft_traceinfo", "verdict")),
            "HAVE_NFT_RULE_DP": int(has("nft_rule_dp", "handle")),
            "HAVE_NFT_RULE_LAST": int(has("nft_rule_dp_last", "chain")),
            "HAVE_NET_COOKIE": int(cookies),
            "NFT_VERDICTS": _selected(options.get("nft_verdicts", ("drop", "accept"))),
        }
        self.members = {
            name: members for name, members in self.members.items() if any(has(name, member) for member in members)
        }
        nft = find_nft()
        self._change = bool(options.get("allow_system_changes"))
        if self._change and nft is None:
            raise Unavailable("nft binary not available: no such file in PATH", hint="install the package nftables")
        if not self._change:
            _log.info(
                "If an nft trace rule wasn't manually added nft events won't be reported: see help for "
                "--allow-system-changes"
            )
        if nft is not None:
            self._trace = TraceRule(nft)
            self._rules = RuleTexts(nft, Namespaces(cookies))

    def probes(self) -> Iterable[str]:
        return (_PROBE,)

    def start(self) -> None:
        if self._trace is not None:
            self._trace.clean_up()
            if self._change:
                self._trace.install()
        if self._rules is not None:
            # without a rule of ours there may never be an event: no rule needs to be known yet
            self._rules.start(everything=self._change)

    def stop(self) -> None:
        try:
            if self._rules is not None:
                self._rules.stop()
        finally:
            if self._trace is not None:
                self._trace.remove()

    def maker(self, section: str, parts: tuple[str, ...]) -> Callable[..., Any]:
        return self._section

    def _section(self, *values: Any) -> NftSection:
        known = self._sections.get(values)
        if known is None:
            known, final = self._make(*values)
            if final:
                if len(self._sections) >= _REMEMBERED:
                    self._sections.clear()
                self._sections[values] = known
        return known

    def _make(
        self,
        table: bytes,
        chain: bytes,
        table_handle: int,
        chain_handle: int,
        rule_handle: int,
        net: int,
        code: int,
        policy: int,
        target: bytes = b"",
    ) -> tuple[NftSection, bool]:
        """The section, and whether it would be the same the next time."""
        rule = None
        if self._rules is not None and rule_handle >= 0:
            rule = self._rules.find(net, table_handle, rule_handle)
        name = text(chain)
        if chain_handle < 0:
            # too far from the end of its chain for the BPF side to see whose rule it is
            name, chain_handle = (rule.chain, rule.chain_handle) if rule else ("?", -1)
        section = NftSection(
            table_name=text(table),
            chain_name=name,
            verdict=_NAMES.get(code, "unknown"),
            verdict_chain_name=text(target) or None,
            table_handle=table_handle,
            chain_handle=chain_handle,
            rule_handle=None if rule_handle < 0 else rule_handle,
            policy=bool(policy),
            rule=rule.text if rule else None,
        )
        return section, rule is not None or rule_handle < 0 or self._rules is None


def _selected(names: Iterable[str]) -> int:
    """The bits of the verdicts to report."""
    wanted = set(VERDICTS if "all" in names else names)
    return sum(1 << code + 5 for name, code in VERDICTS.items() if name in wanted)
