"""Plan: which probes a run has, what each reads and does to tracking, and the program shape that follows.

Tracking needs to see where the data of packets goes: with kprobes, the functions that free or replace it; without
them (reduced mode), the tracepoints of the usual ways to free an sk_buff.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from retis_py.collectors import Collector
from retis_py.errors import KernelError, ProbeError
from retis_py.kernel.compose import (
    ARGS_MAX,
    HIT_ARGS,
    HIT_FREE_ONLY,
    HIT_MEMORY,
    HIT_RET,
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
from retis_py.kernel.probes import Probe, parse, resolve, resolve_useful
from retis_py.kernel.system import System
from retis_py.kernel.usdt import UserProcess

__all__ = ["AUTOMATIC", "AUTOMATIC_STACK", "NEVER_NEW", "Planned", "plan", "plan_user", "shape_of", "useful"]

_log = logging.getLogger(__name__)

#: options of a probe that is of use without any collector
_VALUES = frozenset({"args", "ret"})
#: probes of a run that asks for none
AUTOMATIC = ("tp:net:netif_receive_skb", "tp:net:net_dev_start_xmit")
#: the same with ``--probe-stack``: where packets end, most functions they passed are in the stack trace
AUTOMATIC_STACK = ("tp:skb:consume_skb", "tp:skb:kfree_skb")

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
NEVER_NEW = ("kprobe:skb_release_head_state", "kprobe:kfree_skbmem", "tp:net:net_dev_xmit")

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
    #: `Shape.positions`, where its program looks them up
    positions: tuple[int, int, int, int] = (-1, -1, -1, -1)


def _at(probe: Probe, *types: str) -> int:
    """Position of an argument if a program can get at it: kprobes see what is in registers."""
    index = probe.position(*types)
    return index if index < probe.visible else -1


def shape_of(
    probe: Probe, collectors: Sequence[Collector], tracking: int = 0, silent: bool = False, stack: bool = False
) -> Shape:
    """The shape of *probe*; *tracking* are its flags, *silent* if it reports no events."""
    flags = tracking
    if flags & HIT_MEMORY and silent:
        return Shape(probe.type, flags=HIT_MEMORY)
    flags &= ~HIT_MEMORY
    skb = _at(probe, "struct sk_buff *")
    if probe.type == "kretprobe" or probe.name in NEVER_NEW:
        # a kretprobe's packet may be gone by the time its function returns
        flags |= TRACK_NEVER_NEW
    observers = tuple(name for c in collectors for name in c.observers.get(probe.name, ()))
    wanted = {member: _at(probe, *types) for c in collectors for member, types in c.arguments.items()}
    arguments = tuple((member, index) for member, index in wanted.items() if index >= 0)
    context = next((c.contexts[probe.name] for c in collectors if probe.name in c.contexts), "")
    if silent and (observers or context):
        flags |= HIT_SILENT
        return Shape(probe.type, skb, flags=flags, arguments=arguments, context=context, observers=observers)
    if silent:
        return Shape(probe.type, skb, flags=flags | (HIT_FREE_ONLY if flags & TRACK_FREE else HIT_SILENT))
    reason = _at(probe, *_DROP_REASONS)
    for collector in collectors:
        if probe.name in collector.probes() and collector.defines().get("HAVE_DROP_REASON") == 0:
            reason = NO_REASONS
    if stack or "stack" in probe.options:
        flags |= HIT_STACK
    if "args" in probe.options:
        flags |= HIT_ARGS
    if "ret" in probe.options:
        flags |= HIT_RET
    return Shape(
        probe.type,
        skb,
        _at(probe, "struct net_device *"),
        _at(probe, "struct net *"),
        reason,
        flags,
        arguments=arguments,
        copied=min(len(probe.parameters), ARGS_MAX) if flags & HIT_ARGS else 0,
        hooks=tuple(hook for c in collectors for hook in c.targeted.get(probe.name, ())),
        context=context,
        observers=observers,
    )


def useful(probe: Probe, collectors: Sequence[Collector]) -> bool:
    """Can a collector retrieve anything from *probe*?"""
    if probe.options & _VALUES:
        return True
    return any(
        probe.name in c.targeted or probe.name in c.contexts or any(p.type in c.reads for p in probe.parameters)
        for c in collectors
    )


def _wanted(specs: Iterable[str], system: System, collectors: Sequence[Collector], tolerant: bool) -> dict[str, Probe]:
    """Probes by name, as asked for and as the collectors need; the same one twice is one, with the options of both."""
    found: dict[str, Probe] = {}
    if tolerant and not system.kprobes:
        specs = list(specs)
        functions = [text for text in specs if parse(text).type != "raw_tracepoint"]
        if functions:
            _log.warning("Skipping %d function probe(s) of the profile: this kernel has no kprobes", len(functions))
            specs = [text for text in specs if text not in functions]
    types = {kind for c in collectors for kind in c.reads}
    named = {name.removeprefix("kprobe:") for c in collectors for name in (*c.targeted, *c.contexts)}
    for text in specs:
        spec = parse(text)
        try:
            probes, known = resolve_useful(spec, system, None if spec.options & _VALUES else types, named)
        except ProbeError as error:
            if not tolerant:
                raise
            _log.warning("Skipping probe %s: %s", text, error)
            continue
        useless = {probe.symbol for probe in probes if not useful(probe, collectors)}
        left_out = known - len(probes) + len(useless)
        if left_out and known == 1:
            _log.info("No probe was attached to %s as no collector could retrieve data from it", *useless)
        elif left_out:
            _log.info(
                "%s: no probe was attached to %d of %d symbols as no collector could retrieve data from them",
                *(text, left_out, known),
            )
        for probe in probes:
            if probe.symbol in useless:
                continue
            before = found.get(probe.name)
            options = probe.options | (before.options if before else frozenset())
            by_pattern = probe.by_pattern and (before is None or before.by_pattern)
            found[probe.name] = probe._replace(options=options, by_pattern=by_pattern)
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
    contexts = {name for c in collectors for name in c.contexts}
    reads_skb = any("struct sk_buff *" in c.reads for c in collectors) or any(
        _at(probe, "struct sk_buff *") >= 0 or probe.name in contexts for probe in wanted.values()
    )
    planned: list[Planned] = []
    for name, flags in tracking.items() if reads_skb else ():
        if name in wanted:
            continue
        try:
            (probe,) = resolve(parse(name), system)
        except ProbeError as error:
            _log.warning("packets may keep their identity too long or lose it: %s", error)
            continue
        planned.append(Planned(probe, shape_of(probe, collectors, flags, silent=True), False))
    for name in dict.fromkeys(name for c in collectors for name in c.observers):
        if name in wanted or name in tracking:
            continue
        try:
            (probe,) = resolve(parse(name), system)
        except ProbeError as error:
            _log.warning("what %s tells is done without: %s", name, error)
            continue
        planned.append(Planned(probe, shape_of(probe, collectors, silent=True), False))
    for name, probe in wanted.items():
        flags = tracking.get(name, 0)
        planned.append(Planned(probe, shape_of(probe, collectors, flags, stack=stack), True))
    return planned


def plan_user(collector: Collector, process: UserProcess) -> list[Planned]:
    """The USDT probes of *process* that *collector* wants."""
    planned = []
    for name, (hook, wanted) in collector.user_probes.items():
        if name not in process.probes:
            raise KernelError(f"cannot find USDT probe {name} in {process.path}", collector.no_user_probes or None)
        arguments = tuple((process.argument_type(name, index), index) for index in wanted)
        planned.append(Planned(Probe("usdt", name, ()), Shape("usdt", arguments=arguments, hooks=(hook,)), True))
    return planned
