"""Event text: sections put together as upstream prints them.

A section's text is its own (`Section.text`); here is what is between them: order, separators,
indentation. The text of a section is remembered, since an event's device, task, buffer state and often
its packet are those of another event just before: a look-up is several times faster than the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from retis_py.events.clock import Clock
from retis_py.events.event import FILE_ORDER, BaseEvent, attribute
from retis_py.events.section import PLAIN, Section, Style

__all__ = ["Layout", "TextRenderer", "Texts", "series_to_text", "to_text"]

#: texts remembered per kind of section, and the longest of them, in characters: tens of MB in the worst case
_CACHE, _LONGEST = 4096, 1024
#: the largest section whose text is remembered, in bytes of JSON: not all of it need be in the text
_LARGEST = 4 * _LONGEST

_KNOWN = frozenset(map(attribute, FILE_ORDER))


class Texts(dict[Any, Any]):
    """Key -> text, made when first asked for. Forgets everything when full: cheaper than an order."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, key: Any) -> Any:
        text = self.make(key)
        if len(text) <= _LONGEST and _size(key) <= _LARGEST:
            if len(self) >= _CACHE:
                self.clear()
            self[key] = text
        return text


def _size(key: Any) -> int:
    """Bytes of *key*, if it is one that may be large: a section, or its JSON."""
    if isinstance(key, msgspec.Struct):
        key = msgspec.json.encode(key)
    return len(key) if isinstance(key, bytes) else 0


def _below(text: str, start: str) -> str:
    """*text*, each line after *start* (a newline and indentation); empty lines stay empty."""
    if "\n" in text:
        return "".join(f"{start}{line}" if line.strip() else "\n" for line in text.split("\n"))
    return start + text if text else ""


class Layout:
    """The text of sections at one indentation, each with what separates it from the text before.

    *base* is the indentation of the event's first line: 0, or 4 for all but the first of a series.
    """

    def __init__(self, style: Style, base: int) -> None:
        self.style = style
        #: what the first line of an event begins with
        self.lead = " " * (base - 2) + "\u21b3 " if base else ""
        self._block = "\n" + " " * (base + 2) if style.multi_line else " "
        self._stack = "\n" + " " * (base + 4) if style.multi_line else " "

    def inline(self, section: Any) -> str:
        """*section* on the line it follows."""
        return f" {section.text(self.style)}"

    def block(self, section: Any) -> str:
        """*section* on lines of its own."""
        return _below(section.text(self.style), self._block)

    def stack(self, kernel: Any) -> str:
        """The stack trace of *kernel*."""
        return _below(kernel.stack_text(self.style), self._stack)


class _Remembered:
    """The functions of `Layout`, by look-up."""

    def __init__(self, layout: Layout) -> None:
        self.lead = layout.lead
        self.task = Texts(layout.inline)
        self.inline = Texts(layout.inline)
        self.block = Texts(layout.block)
        self.packet = Texts(layout.block)
        self.stack = Texts(layout.stack)


class TextRenderer:
    """Makes the text of events, in order: with `Style.utc` a startup event sets the clock of those after it.

    *clock* is what is known of the time before the first startup event.
    """

    def __init__(self, style: Style = PLAIN, clock: Clock | None = None) -> None:
        self.style = style
        self.clock = clock
        self._first = _Remembered(Layout(style, 0))
        self._next = _Remembered(Layout(style, 4))
        self._extra: tuple[str, ...] | None = None

    def event(self, event: Any) -> str:
        """The text of one event, without the newline after it."""
        return self._text(event, self._first)

    def series(self, events: Iterable[Any]) -> str:
        """The text of a series, without the newline after it."""
        layout = self._first
        texts = []
        for event in events:
            texts.append(self._text(event, layout))
            layout = self._next
        return "\n".join(texts)

    def time(self, timestamp: int) -> str:
        """A time as the style wants it."""
        return self.clock.utc(timestamp) if self.style.utc and self.clock is not None else str(timestamp)

    def _text(self, event: Any, layout: _Remembered) -> str:
        common = event.common
        if event.startup is not None:
            self.clock = Clock(event.startup.clock_monotonic_offset.nanoseconds())
        if common is None:
            header = f"{layout.lead}(event without common section)"
        else:
            time = self.time(common.timestamp)
            cpu = "" if common.smp_id is None else f" ({common.smp_id})"
            header = f"{layout.lead}{time}{cpu}{'' if common.task is None else layout.task[common.task]}"
        kernel = event.kernel
        stack = ""
        if kernel is not None:
            header += layout.inline[kernel]
            if kernel.stack_trace:
                stack = layout.stack[kernel]
        elif event.userspace is not None:
            header += layout.inline[event.userspace]
        if event.tracking is not None:
            header += f" {event.tracking.text(self.style)}"
        elif event.skb_tracking is not None:
            header += layout.inline[event.skb_tracking]
        if event.skb_drop is not None:
            header += layout.inline[event.skb_drop]
        return header + stack + self._body(event, layout)

    def _body(self, event: Any, layout: _Remembered) -> str:
        block = layout.block
        text = "" if event.packet is None else layout.packet[event.packet]
        if event.netns is not None:
            text += block[event.netns]
            if event.dev is not None:
                text += layout.inline[event.dev]
        elif event.dev is not None:
            text += block[event.dev]
        if event.skb is not None:
            text += block[event.skb]
        if event.ovs is not None:
            text += block[event.ovs]
        if event.ovs_detrace is not None:
            text += block[event.ovs_detrace]
        if event.nft is not None:
            text += block[event.nft]
        if event.ct is not None:
            text += block[event.ct]
        for section in self._extras(event):
            text += block[section]
        if event.startup is not None:
            text += block[event.startup]
        return text

    def _extras(self, event: BaseEvent) -> list[Section]:
        """Sections of *event* that upstream does not know."""
        if self._extra is None:
            self._extra = tuple(name for name in event.__struct_fields__ if name not in _KNOWN)
        return [section for name in self._extra if (section := getattr(event, name)) is not None]


def to_text(event: Any, style: Style = PLAIN, clock: Clock | None = None) -> str:
    """The text of *event*, as ``retis print`` writes it, without the newline after it.

    For many events use one `TextRenderer`.
    """
    return TextRenderer(style, clock).event(event)


def series_to_text(events: Iterable[Any], style: Style = PLAIN, clock: Clock | None = None) -> str:
    """The text of a series of events, as ``retis sort`` writes it, without the newline after it."""
    return TextRenderer(style, clock).series(events)
