"""print: the text of all events of a file, in file order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from retis_py.display import TextRenderer
from retis_py.errors import RetisError
from retis_py.events.clock import Clock
from retis_py.events.file import EventReader, SeriesReader, is_utf8
from retis_py.events.section import Style
from retis_py.events.source import Block
from retis_py.events.version import LATEST
from retis_py.process.blocks import decode_lines
from retis_py.process.output import report_skipped
from retis_py.process.progress import watch
from retis_py.process.rawtext import RawRenderer, raw_event_type
from retis_py.process.team import Written, write_blocks

__all__ = ["print_events"]


class _Printer:
    """Makes the text of blocks of lines."""

    def __init__(self, reader: EventReader | SeriesReader, style: Style) -> None:
        self.reader = reader
        self.style = style
        self.slow = TextRenderer(style)
        #: prints an event, or the first one of a series
        self.first = RawRenderer(reader.event_type, style, 0)
        #: prints the others of a series
        self.next = RawRenderer(reader.event_type, style, 4) if reader.is_sorted else self.first
        raw = raw_event_type(reader.event_type)
        line = list[raw] if reader.is_sorted else raw  # type: ignore[valid-type]
        self.decode = msgspec.json.Decoder(line).decode

    def work(self, block: Block, offset: int | None) -> Written:
        """The text of *block*, and how many of its events have none for want of a common section.

        *offset* is that of the clock before the block; it is the state.
        """
        if self.reader.level == LATEST and is_utf8(block.data):
            try:
                return self._fast(block, offset)
            except (msgspec.DecodeError, ValueError, RecursionError):
                pass  # a reader knows what is wrong
        return self._slow(block, offset)

    def _fast(self, block: Block, offset: int | None) -> Written:
        renderer = self.first
        renderer.clock = self._clock(offset)
        items = decode_lines(self.decode, block.data)
        texts = list(map(self._fast_series if self.reader.is_sorted else renderer.text, items))
        end = self._end()
        texts.append("")  # the last one ends as the others
        return Written(end.join(texts).encode(), self._offset(renderer.clock), 0, None)

    def _clock(self, offset: int | None) -> Clock | None:
        return None if offset is None else Clock(offset)

    def _offset(self, clock: Clock | None) -> int | None:
        return clock.offset if clock is not None and self.style.utc else None

    def _fast_series(self, series: list[Any]) -> str:
        texts = []
        renderer = self.first
        for event in series:
            texts.append(renderer.text(event))
            self.next.clock, renderer = renderer.clock, self.next
        self.first.clock = renderer.clock
        return "\n".join(texts)

    def _end(self) -> str:
        """What follows an event, or a series."""
        return "\n\n" if self.style.multi_line or self.reader.is_sorted else "\n"

    def _slow(self, block: Block, offset: int | None) -> Written:
        texts: list[str] = []
        error: RetisError | None = None
        skipped = 0
        renderer = self.slow
        renderer.clock = self._clock(offset)
        try:
            for item in self.reader.read(block):
                series: list[Any] = item if self.reader.is_sorted else [item]
                events = [event for event in series if event.common is not None]
                skipped += len(series) - len(events)
                if events or not series:
                    texts.append(renderer.series(events) + self._end())
        except RetisError as caught:
            error = caught
        return Written("".join(texts).encode(), self._offset(renderer.clock), skipped, error)


def print_events(
    reader: EventReader | SeriesReader,
    style: Style,
    out: int,
    stopped: Callable[[], bool] = lambda: False,
    progress: bool = False,
) -> None:
    """Write the text of all events of *reader* to the file descriptor *out*.

    Raises EventFileError for a bad line, when all before it is written. *stopped* is asked now and then;
    *progress* says to show how far it is, see `watch`.
    """
    with watch(reader.source, stopped, progress) as watched:
        skipped = sum(write_blocks(reader.source, _Printer(reader, style).work, out, watched))
    report_skipped(skipped)
