"""Plan: which probes a run has, what each reads and does to tracking, and the program shape that follows.

Tracking needs to see where the data of packets goes: with kprobes, the functions that free or replace it; without
them (reduced mode), the tracepoints of the usual ways to free an sk_buff.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from retis_py.collectors import Collector
from retis_py.errors import ProbeError
from retis_py.kernel.compose import (
    HIT_FREE_ONLY,
    HIT_MEMORY,
    HIT_SILENT,
    HIT_STACK,
    NO_REASONS,
    TRACK_EXPAND,
    TRACK_FREE,
    TRACK_LAST,
    TRACK_NEVER_NEW,
    TRACK_PARTIAL,
    Shape,
)
from retis_py.kernel.probes import Probe, parse, resolve
from retis_py.kernel.system import System

__all__ = ["AUTOMATIC", "Planned", "plan"]

_log = logging.getLogger(__name__)

#: probes of a run that asks for none
AUTOMATIC = ("tp:net:netif_receive_skb", "tp:net:net_dev_start_xmit")

#: kprobes that are always there: what they do to the packet's data (net/core/skbuff.c)
_TRACKING = {
    "kprobe:skb_free_head": TRACK_FREE,
    "kprobe:kfree_skb_partial": TRACK_FREE | TRACK_PARTIAL,
    "kprobe:pskb_expand_head": TRACK_EXPAND,
}
#: their stand-ins where functions cannot be probed: the first two fire for an sk_buff, whose data may have other
#: users; the others for the data itself, of packets that are freed without the first (TCP's)
_TRACKING_REDUCED = {
    "tp:skb:consume_skb": TRACK_FREE | TRACK_LAST,
    "tp:skb:kfree_skb": TRACK_FREE | TRACK_LAST,
    "tp:kmem:kfree": HIT_MEMORY,
    "tp:kmem:kmem_cache_free": HIT_MEMORY,
}
#: may run after the data was released: they report an identity that is known, and never begin one
_NEVER_NEW = ("kprobe:skb_release_head_state", "kprobe:kfree_skbmem", "tp:net:net_dev_xmit")

_DROP_REASONS = (
    "enum skb_drop_reason",
    "enum mac80211_drop_reason",
    "enum ovs_drop_reason",
    "enum qdisc_drop_reason",
)


class Planned(NamedTuple):
    """A probe of the run with the shape of its program."""

    probe: Probe
    shape: Shape
    #: whether its absence is an error: tracking probes may be missing (inlined functions)
    required: bool


def _at(probe: Probe, *types: str) -> int:
    """Position of an argument if a program can get at it: kprobes see what is in registers."""
    index = probe.position(*types)
    return index if index < (5 if probe.type != "raw_tracepoint" else 12) else -1


def _shape(probe: Probe, tracking: int, silent: bool, collectors: Sequence[Collector], stack: bool) -> Shape:
    flags = tracking
    if flags & HIT_MEMORY and silent:
        return Shape(probe.type, flags=HIT_MEMORY)
    flags &= ~HIT_MEMORY
    skb = _at(probe, "struct sk_buff *")
    if probe.type == "kretprobe" or probe.name in _NEVER_NEW:
        # a kretprobe's packet may be gone by the time its function returns
        flags |= TRACK_NEVER_NEW
    if silent:
        return Shape(probe.type, skb, flags=flags | (HIT_FREE_ONLY if flags & TRACK_FREE else HIT_SILENT))
    reason = _at(probe, *_DROP_REASONS)
    for collector in collectors:
        if probe.name in collector.probes() and collector.defines().get("HAVE_DROP_REASON") == 0:
            reason = NO_REASONS
    if stack or "stack" in probe.options:
        flags |= HIT_STACK
    return Shape(probe.type, skb, _at(probe, "struct net_device *"), _at(probe, "struct net *"), reason, flags)


def _useful(probe: Probe, known: frozenset[str]) -> bool:
    return any(parameter.type in known for parameter in probe.parameters)


def _wanted(specs: Iterable[str], system: System, collectors: Sequence[Collector], tolerant: bool) -> dict[str, Probe]:
    """Probes by name, as asked for and as the collectors need; the same one twice is one, with the options of both."""
    known = frozenset(kind for c in collectors for kind in c.reads)
    found: dict[str, Probe] = {}
    if tolerant and not system.kprobes:
        specs = list(specs)
        functions = [text for text in specs if parse(text).type != "raw_tracepoint"]
        if functions:
            _log.warning("Skipping %d function probe(s) of the profile: this kernel has no kprobes", len(functions))
            specs = [text for text in specs if text not in functions]
    for text in specs:
        try:
            probes = resolve(parse(text), system)
        except ProbeError as error:
            if not tolerant:
                raise
            _log.warning("Skipping probe %s: %s", text, error)
            continue
        useless = [probe.symbol for probe in probes if not _useful(probe, known)]
        if useless and len(probes) == 1:
            _log.info("No probe was attached to %s as no collector could retrieve data from it", useless[0])
        elif useless:
            _log.info(
                "%s: no probe was attached to %d of %d symbols as no collector could retrieve data from them",
                *(text, len(useless), len(probes)),
            )
            _log.debug("left out: %s", ", ".join(useless))
        for probe in probes:
            if probe.symbol in useless:
                continue
            before = found.get(probe.name)
            options = probe.options | (before.options if before else frozenset())
            found[probe.name] = probe._replace(options=options)
    return found


def plan(
    specs: Iterable[str],
    system: System,
    collectors: Sequence[Collector],
    stack: bool = False,
    tolerant: bool = False,
) -> list[Planned]:
    """All probes of a run: tracking first. With *tolerant* a spec that matches nothing is skipped with a warning."""
    needed = [text for c in collectors for text in c.probes()]
    wanted = _wanted(needed, system, collectors, tolerant=False)
    wanted.update(
        (name, probe._replace(options=probe.options | wanted[name].options) if name in wanted else probe)
        for name, probe in _wanted(specs, system, collectors, tolerant).items()
    )
    tracking = _TRACKING if system.kprobes else _TRACKING_REDUCED
    reads_skb = any("struct sk_buff *" in c.reads for c in collectors) or any(
        _at(probe, "struct sk_buff *") >= 0 for probe in wanted.values()
    )
    planned: list[Planned] = []
    for name, flags in tracking.items() if reads_skb else ():
        if name in wanted:
            continue
        try:
            (probe,) = resolve(parse(name), system)
        except ProbeError as error:
            _log.debug("no tracking at %s: %s", name, error)
            continue
        planned.append(Planned(probe, _shape(probe, flags, True, collectors, False), False))
    for name, probe in wanted.items():
        flags = tracking.get(name, 0)
        planned.append(Planned(probe, _shape(probe, flags, False, collectors, stack), True))
    return planned
