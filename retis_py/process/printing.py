"""print: the text of all events of a file, in file order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from retis_py.display import TextRenderer
from retis_py.errors import RetisError
from retis_py.events.clock import Clock
from retis_py.events.file import EventReader, SeriesReader
from retis_py.events.section import Style
from retis_py.events.source import Block
from retis_py.process.parallel import run

__all__ = ["print_events"]

log = logging.getLogger(__name__)


class _Printer:
    """Makes the text of blocks of lines."""

    def __init__(self, reader: EventReader | SeriesReader, style: Style) -> None:
        self.reader = reader
        self.style = style
        self.renderer = TextRenderer(style)
        #: events left out because they have no common section
        self.skipped = 0

    def work(self, block: Block) -> tuple[bytes, RetisError | None]:
        texts: list[str] = []
        error: RetisError | None = None
        try:
            if self.reader.is_sorted:
                self._series(block, texts)
            else:
                self._events(block, texts)
        except RetisError as caught:
            error = caught
        return "".join(texts).encode(), error

    def _events(self, block: Block, texts: list[str]) -> None:
        end = "\n\n" if self.style.multi_line else "\n"
        text, append = self.renderer.event, texts.append
        for event in self.reader.read(block):
            if event.common is None:
                self.skipped += 1
                continue
            append(text(event))
            append(end)

    def _series(self, block: Block, texts: list[str]) -> None:
        for series in self.reader.read(block):
            events = [event for event in series if event.common is not None]
            self.skipped += len(series) - len(events)
            texts.append(self.renderer.series(events))
            texts.append("\n\n")

    def skip(self, block: Block) -> None:
        """Dates need the last startup event before the block they are in."""
        if not self.style.utc:
            return
        data = block.data
        found = len(data)
        while (found := data.rfind(b'"startup"', 0, found)) >= 0:
            start = data.rfind(b"\n", 0, found) + 1
            line = data[start : data.find(b"\n", found)]
            offset = self._startup_offset(Block(block.path, block.offset, line))
            if offset is not None:
                self.renderer.clock = Clock(offset)
                return

    def _startup_offset(self, line: Block) -> Any:
        """The clock offset of the last startup event in *line*; None if there is none."""
        try:
            items = list(self.reader.read(line))
        except RetisError:
            return None  # the process that has this block reports it
        events = items[0] if self.reader.is_sorted else items
        offsets = [event.startup.clock_monotonic_offset for event in events if event.startup is not None]
        return offsets[-1] if offsets else None

    def result(self) -> int:
        return self.skipped


def print_events(
    reader: EventReader | SeriesReader, style: Style, out: int, stopped: Callable[[], bool] = lambda: False
) -> None:
    """Write the text of all events of *reader* to the file descriptor *out*.

    Raises EventFileError for a bad line, when all before it is written. *stopped* is asked now and then.
    """
    skipped = sum(run(reader.source, _Printer(reader, style), out, stopped))
    if skipped:
        log.warning("%d event(s) without a common section not printed", skipped)
