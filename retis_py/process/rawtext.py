"""Event text without decoding: the JSON of a section is looked up among those seen before.

An event repeats what others just before it said: its device, namespace, task, and within a packet's way through
the kernel its bytes too. So lines are only split into sections (`msgspec.Raw`), whose bytes lead to the text made
when they were first seen; new ones are decoded and checked as any reader does it. What comes out is what
`TextRenderer` makes, which a test holds against it for events of all kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import msgspec

from retis_py.display import Layout, Texts
from retis_py.events.clock import Clock
from retis_py.events.event import FILE_ORDER, attribute
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
        (name, Optional[_Common] if name == "common" else msgspec.Raw, None)  # noqa: UP045
        for name in event_type.__struct_fields__
    ]
    return msgspec.defstruct("RawEvent", fields, rename="kebab", gc=False)


class RawRenderer:
    """Makes the text of raw events at one indentation.

    *validate* checks a decoded event. Raises ValueError or msgspec.DecodeError for an event that is not valid,
    without saying where: a reader finds that again. *clock* may be set, see `TextRenderer`.
    """

    def __init__(
        self, event_type: Any, validate: Callable[[Any], None], style: Style, base: int, clock: Clock | None = None
    ) -> None:
        self.clock = clock
        self._utc = style.utc
        self._decode = msgspec.json.Decoder(event_type).decode
        self._validate = validate
        layout = Layout(style, base)
        self._layout = layout
        self._lead = layout.lead
        inline, block = layout.inline, layout.block
        self._cpu = Texts(lambda cpu: "" if cpu is None else f" ({cpu})")
        self._task = Texts(self._task_text)
        self._kernel = Texts(self._kernel_texts)
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
        known = set(FILE_ORDER)
        #: sections upstream does not know: attribute and texts
        self._extra = [
            (attribute(key), self._texts(key, block))
            for key in event_type.__struct_encode_fields__
            if key not in known
        ]

    def _section(self, key: str, data: bytes) -> Any:
        """The section *key* of which *data* is the JSON."""
        event = self._decode(b'{"%b":%b}' % (key.encode(), data))
        self._validate(event)
        return getattr(event, attribute(key))

    def _texts(self, key: str, text: Callable[[Any], str]) -> Texts:
        def make(data: bytes) -> str:
            section = self._section(key, data)
            return "" if section is None else text(section)

        return Texts(make)

    def _task_text(self, data: bytes) -> str:
        task = self._section("common", b'{"timestamp":0,"task":%b}' % data).task
        return "" if task is None else self._layout.inline(task)

    def _kernel_texts(self, data: bytes) -> tuple[str, str]:
        """The probe, and the stack, which comes later; both empty for null."""
        kernel = self._section("kernel", data)
        return ("", "") if kernel is None else (self._layout.inline(kernel), self._layout.stack(kernel))

    def _startup(self, data: bytes) -> str:
        startup = self._section("startup", data)
        if startup is None:
            return ""
        self.clock = Clock(startup.clock_monotonic_offset)
        return self._layout.block(startup)

    def text(self, event: Any) -> str | None:
        """The text of *event*, None if it has no common section."""
        startup = "" if event.startup is None else self._startup(bytes(event.startup))
        common = event.common
        if common is None:
            return None
        time = common.timestamp
        if time > _U64_MAX:
            raise ValueError
        if self._utc and self.clock is not None:
            time = self.clock.utc(time)
        task = "" if common.task is None else self._task[bytes(common.task)]
        probe = stack = identity = drop = packet = netns = dev = skb = ovs = detrace = nft = ct = ""
        if event.kernel is not None:
            probe, stack = self._kernel[bytes(event.kernel)]
        if event.userspace is not None:
            userspace = self._userspace[bytes(event.userspace)]
            probe = probe or userspace
        if event.skb_tracking is not None:
            identity = self._skb_tracking[bytes(event.skb_tracking)]
        if event.tracking is not None:
            identity = self._tracking[bytes(event.tracking)] or identity
        if event.skb_drop is not None:
            drop = self._skb_drop[bytes(event.skb_drop)]
        if event.packet is not None:
            packet = self._packet[bytes(event.packet)]
        if event.netns is not None:
            netns = self._netns[bytes(event.netns)]
        if event.dev is not None:
            dev = (self._dev_inline if netns else self._dev)[bytes(event.dev)]
        if event.skb is not None:
            skb = self._skb[bytes(event.skb)]
        if event.ovs is not None:
            ovs = self._ovs[bytes(event.ovs)]
        if event.ovs_detrace is not None:
            detrace = self._detrace[bytes(event.ovs_detrace)]
        if event.nft is not None:
            nft = self._nft[bytes(event.nft)]
        if event.ct is not None:
            ct = self._ct[bytes(event.ct)]
        for name, texts in self._extra:
            raw = getattr(event, name)
            if raw is not None:
                ct += texts[bytes(raw)]
        return (
            f"{self._lead}{time}{self._cpu[common.smp_id]}{task}{probe}{identity}{drop}{stack}"
            f"{packet}{netns}{dev}{skb}{ovs}{detrace}{nft}{ct}{startup}"
        )
