"""Section ids: every raw part a run can submit, numbered for bpf/layouts.h and for the decoder alike."""

from __future__ import annotations

from retis_py.collectors import COLLECTORS
from retis_py.events.wire import Part, StackRaw

__all__ = ["PARTS"]

_OF_COLLECTORS = [
    Part(name, layout, section)
    for collector in COLLECTORS
    for section, layouts in collector.layouts.items()
    for name, layout in layouts.items()
]

#: in bit order, which is hook order; the stack trace comes first because it is the probe's, not a collector's, and
#: what ends the event with a tail comes last
PARTS: tuple[Part, ...] = (
    Part("stack", StackRaw, "kernel"),
    *sorted(_OF_COLLECTORS, key=lambda part: part.layout.tail is not None),
)
