"""nft: verdicts of nftables rules.  BPF side: bpf/collectors/nft.bpf.c"""

from typing import ClassVar, Optional

from retis_py.collectors.base import Collector
from retis_py.events.section import I64, Section, Style
from retis_py.events.visible import visible

__all__ = ["Nft", "NftSection"]


class NftSection(Section, kw_only=True):
    """A verdict of a rule or of a chain's policy."""

    key: ClassVar[str] = "nft"
    table_name: str
    chain_name: str
    #: continue break jump goto return drop accept stolen queue repeat stop unknown
    verdict: str
    #: where ``jump`` and ``goto`` lead
    verdict_chain_name: Optional[str] = None
    table_handle: I64
    chain_handle: I64
    #: None when the verdict comes from no rule
    rule_handle: Optional[I64] = None
    #: the verdict is the policy of the chain
    policy: bool

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
        return text


class Nft(Collector):
    """Reports verdicts of nftables."""

    name = "nft"
    sections = (NftSection,)
