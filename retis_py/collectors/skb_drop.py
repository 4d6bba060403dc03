"""skb_drop: why a packet was dropped.  BPF side: bpf/collectors/skb_drop.bpf.c"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Optional

from retis_py.collectors.base import Collector, Kernel, Unavailable
from retis_py.events.raw import Raw, pad, s32
from retis_py.events.section import Section, Style
from retis_py.events.visible import visible

__all__ = ["SkbDrop", "SkbDropSection"]


_log = logging.getLogger(__name__)

#: subsystem -> enum with its reasons, as upstream knows them; the core has no name
_SUBSYSTEMS = {
    "core": "skb_drop_reason",
    "mac80211_unusable": "mac80211_drop_reason",
    "mac80211_monitor": "mac80211_drop_reason",
    "openvswitch": "ovs_drop_reason",
    "qdisc": "qdisc_drop_reason",
}


class SkbDropRaw(Raw):
    """enum skb_drop_reason (include/net/dropreason-core.h); bits 16 and up are the subsystem. -1: not specified."""

    _fields_ = [("reason", s32), ("_pad", pad * 4)]


class SkbDropSection(Section, kw_only=True):
    """Reason of a drop."""

    key: ClassVar[str] = "skb-drop"
    #: lower-case name of the subsystem the reason belongs to; None is the core's
    subsys: Optional[str] = None
    #: name without ``SKB_DROP_REASON_``, the number as text where it has no name
    drop_reason: str

    def text(self, style: Style) -> str:
        reason = visible(self.drop_reason)
        if self.subsys is not None:
            reason = f"{visible(self.subsys)}/{reason}"
        return f"drop (reason {reason})"


def _core_name(name: str) -> str:
    """``SKB_DROP_REASON_NO_SOCKET`` is ``NO_SOCKET``, ``SKB_CONSUMED`` is ``CONSUMED``."""
    while (short := name.removeprefix("SKB_").removeprefix("DROP_REASON_")) != name:
        name = short
    return name


class SkbDrop(Collector):
    """Reports drop reasons."""

    name = "skb-drop"
    sections = (SkbDropSection,)
    layouts = {"skb-drop": {"skb_drop": SkbDropRaw}}
    hooks = ("skb_drop",)
    reads = tuple(f"enum {name}" for name in dict.fromkeys(_SUBSYSTEMS.values()))

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[int, SkbDropSection] = {}
        self._subsystems: dict[int, str] = {}
        self._warned: set[str] = set()

    def check(self, kernel: Kernel) -> None:
        parameters = kernel.types.tracepoint("kfree_skb")
        if parameters is None:
            raise Unavailable("tracepoint skb:kfree_skb does not exist or isn't traceable")
        if any(parameter.type == "enum skb_drop_reason" for parameter in parameters):
            return
        if kernel.release() >= (5, 17):
            raise Unavailable("Could not retrieve skb drop reasons from the kernel")
        _log.warning("This kernel doesn't provide skb drop reasons")

    def setup(self, kernel: Kernel, options: Mapping[str, Any]) -> None:
        has_reasons = kernel.types.vmlinux.enum("skb_drop_reason") is not None
        self._defines = {"HAVE_DROP_REASON": int(has_reasons)}
        self._read_names(kernel)

    def probes(self) -> Iterable[str]:
        return ("tp:skb:kfree_skb",)

    def _read_names(self, kernel: Kernel) -> None:
        """Names of all reasons, by value, from the enums of the kernel and of its modules."""
        # Linux commit 071c0fc6fb91 ("net: extend drop reasons for multiple subsystems") (in v6.4) put a subsystem
        # into bits 16 and up; before it there is only the core.
        subsystems = kernel.types.vmlinux.enum("skb_drop_reason_subsys") or {"SKB_DROP_REASON_SUBSYS_CORE": 0}
        for name, number in subsystems.items():
            short = name.removeprefix("SKB_DROP_REASON_SUBSYS_").lower()
            if short == "num":
                continue
            self._subsystems[number] = short
            if short not in _SUBSYSTEMS:
                _log.warning("Unknown drop reason subsystem (%s)", short)
                continue
            for reason, value in (kernel.types.enum(_SUBSYSTEMS[short]) or {}).items():
                if short == "core":
                    self._names.setdefault(value, SkbDropSection(drop_reason=_core_name(reason)))
                elif value >> 16 == number:
                    self._names.setdefault(value, SkbDropSection(subsys=short, drop_reason=reason))

    def section(self, reason: int) -> SkbDropSection:
        """The section for a raw reason."""
        known = self._names.get(reason)
        if known is None:
            known = self._names[reason] = self._unknown(reason)
        return known

    def _unknown(self, reason: int) -> SkbDropSection:
        if reason < 0:
            return SkbDropSection(drop_reason="NOT_SPECIFIED")
        number = reason >> 16
        subsys = self._subsystems.get(number)
        if subsys is None:
            _log.warning("Unknown drop reason subsystem id (%d)", number)
            subsys = str(number)
        return SkbDropSection(subsys=None if subsys == "core" else subsys, drop_reason=str(reason))

    def maker(self, section: str, parts: tuple[str, ...]) -> Callable[..., Any]:
        return self.section
