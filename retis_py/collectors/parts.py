"""Section ids: every raw part a run can submit, numbered for bpf/layouts.h and for the decoder alike."""

from __future__ import annotations

from retis_py.collectors import COLLECTORS
from retis_py.events.wire import ArgsRaw, Part, RetRaw, StackRaw, UserRaw

__all__ = ["PARTS"]

_OF_COLLECTORS = [
    Part(name, layout, section)
    for collector in COLLECTORS
    for section, layouts in collector.layouts.items()
    for name, layout in layouts.items()
]

#: in bit order, which is hook order; what is the probe's, not a collector's, comes first; what ends the event with a
#: tail, last
PARTS: tuple[Part, ...] = (
    Part("stack", StackRaw, "kernel"),
    Part("user", UserRaw, "userspace"),
    Part("args", ArgsRaw, "args", of_probe=True),
    Part("ret", RetRaw, "args", of_probe=True),
    *sorted(_OF_COLLECTORS, key=lambda part: part.layout.tail is not None),
)
