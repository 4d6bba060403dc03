"""Event text without decoding: the JSON of a section is looked up among those seen before.

An event repeats what others just before it said: its device, namespace, task, and within a packet's way
through the kernel its bytes too. So lines are only split into sections (`msgspec.Raw`), whose bytes lead
to the text made when they were first seen; new ones are decoded and checked as any reader does it. What
comes out is what `TextRenderer` makes, which a test holds against it for events of all kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional, get_type_hints

import msgspec

from retis_py.display import Layout, Texts
from retis_py.events.clock import Clock
from retis_py.events.core import Task
from retis_py.events.event import FILE_ORDER, attribute
from retis_py.events.ranges import make_section_validator
from retis_py.events.section import U32, U64, Style

__all__ = ["RawRenderer", "raw_event_type"]

_U64_MAX = 0xFFFF_FFFF_FFFF_FFFF

_Raw: Any = msgspec.Raw


class _Common(msgspec.Struct, gc=False):
    timestamp: U64
    smp_id: Optional[U32] = None  # noqa: UP045
    task: _Raw = None


def raw_event_type(event_type: Any) -> Any:
    """Events with the sections of *event_type* as msgspec.Raw, common split once more."""
    fields: list[Any] = [
        (name, Optional[_Common] if name == "common" else msgspec.Raw, None)
        for name in event_type.__struct_fields__
    ]
    return msgspec.defstruct("RawEvent", fields, rename="kebab", gc=False)


class RawRenderer:
    """Makes the text of raw events at one indentation.

    Raises ValueError or msgspec.DecodeError for an event that is not valid, without saying where: a
    reader finds that again. *base* is that of `Layout`.
    """

    def __init__(self, event_type: Any, style: Style, base: int) -> None:
        #: may be set, see `TextRenderer`
        self.clock: Clock | None = None
        self._utc = style.utc
        self._types = get_type_hints(event_type, include_extras=True)
        self._types["task"] = Optional[Task]
        layout = Layout(style, base)
        self._layout = layout
        self._lead = layout.lead
        inline, block = layout.inline, layout.block
        self._cpu = Texts(lambda cpu: "" if cpu is None else f" ({cpu})")
        self._task = self._texts("task", inline)
        # the stack comes later than the probe
        self._kernel = self._texts("kernel", lambda kernel: (inline(kernel), layout.stack(kernel)), ("", ""))
        self._userspace = self._texts("userspace", inline)
        self._tracking = self._texts("tracking", inline)
        self._skb_tracking = self._texts("skb-tracking", inline)
        self._skb_drop = self._texts("skb-drop", inline)
        self._packet = self._texts("packet", block)
        self._netns = self._texts("netns", block)
        self._dev = self._texts("dev", block)
        self._dev_inline = self._texts("dev", inline)
        self._skb = self._texts("skb", block)
        self._ovs = self._texts("ovs", block)
        self._detrace = self._texts("ovs-detrace", block)
        self._nft = self._texts("nft", block)
        self._ct = self._texts("ct", block)
        self._startup = self._texts("startup", self._startup_text).make
        known = set(FILE_ORDER)
        #: sections upstream does not know: attribute and texts
        self._extra = [
            (attribute(key), self._texts(key, block))
            for key in event_type.__struct_encode_fields__
            if key not in known
        ]

    def _texts(self, key: str, text: Callable[[Any], Any], nothing: Any = "") -> Texts:
        """What *text* makes of the sections *key*, by their JSON; *nothing* for null."""
        hint = self._types[attribute(key)]
        tools: list[Any] = []

        def make(data: bytes) -> Any:
            if not tools:  # most files have a few of all sections: the others cost no start-up time
                tools[:] = msgspec.json.Decoder(hint).decode, make_section_validator(key, hint)
            decode, validate = tools
            section = decode(data)
            if section is None:
                return nothing
            if validate is not None:
                validate(section)
            return text(section)

        return Texts(make)

    def _startup_text(self, startup: Any) -> str:
        self.clock = Clock(startup.clock_monotonic_offset.nanoseconds())
        return self._layout.block(startup)

    def text(self, event: Any) -> str:
        """The text of *event*; one without a common section has none and counts as not valid."""
        startup = "" if event.startup is None else self._startup(bytes(event.startup))
        common = event.common
        if common is None:
            raise ValueError  # its other sections may be wrong too
        time = common.timestamp
        if time > _U64_MAX:
            raise ValueError
        if self._utc and self.clock is not None:
            time = self.clock.utc(time)
        task = "" if (raw := common.task) is None else self._task[bytes(raw)]
        probe = stack = identity = drop = packet = netns = dev = skb = ovs = detrace = nft = ct = ""
        if (raw := event.kernel) is not None:
            probe, stack = self._kernel[bytes(raw)]
        if (raw := event.userspace) is not None:
            userspace = self._userspace[bytes(raw)]
            probe = probe or userspace
        if (raw := event.skb_tracking) is not None:
            identity = self._skb_tracking[bytes(raw)]
        if (raw := event.tracking) is not None:
            identity = self._tracking[bytes(raw)] or identity
        if (raw := event.skb_drop) is not None:
            drop = self._skb_drop[bytes(raw)]
        if (raw := event.packet) is not None:
            packet = self._packet[bytes(raw)]
        if (raw := event.netns) is not None:
            netns = self._netns[bytes(raw)]
        if (raw := event.dev) is not None:
            dev = self._dev_inline[bytes(raw)] if netns else self._dev[bytes(raw)]
        if (raw := event.skb) is not None:
            skb = self._skb[bytes(raw)]
        if (raw := event.ovs) is not None:
            ovs = self._ovs[bytes(raw)]
        if (raw := event.ovs_detrace) is not None:
            detrace = self._detrace[bytes(raw)]
        if (raw := event.nft) is not None:
            nft = self._nft[bytes(raw)]
        if (raw := event.ct) is not None:
            ct = self._ct[bytes(raw)]
        for name, texts in self._extra:
            raw = getattr(event, name)
            if raw is not None:
                ct += texts[bytes(raw)]
        return (
            f"{self._lead}{time}{self._cpu[common.smp_id]}{task}{probe}{identity}{drop}{stack}"
            f"{packet}{netns}{dev}{skb}{ovs}{detrace}{nft}{ct}{startup}"
        )
