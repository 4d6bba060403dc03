"""sort: group events by packet, oldest packet first.

Two ways through the same code: with text output events are decoded in full; with a file as only output,
sections that sorting does not look at stay the bytes they are (`SortEvent`), which is what makes it fast.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from typing import Any, BinaryIO, Optional

import msgspec

from retis_py.collectors import Event
from retis_py.collectors.ovs import OvsDetraceSection, OvsFlowLookup, OvsSection
from retis_py.collectors.skb_tracking import SkbTrackingSection
from retis_py.display import TextRenderer
from retis_py.errors import RetisError
from retis_py.events.core import TrackingSection
from retis_py.events.event import BaseEvent, attribute
from retis_py.events.file import EventReader
from retis_py.events.section import U32, U64, Style
from retis_py.events.version import LATEST
from retis_py.events.writer import EventWriter
from retis_py.process.blocks import BlockDecoder
from retis_py.process.output import check_not_input
from retis_py.process.progress import watch
from retis_py.process.series import REMEMBERED, Tracker

__all__ = [
    "MAX_BUFFER",
    "SeriesPrinter",
    "SeriesWriter",
    "SortEvent",
    "Sorter",
    "check_output",
    "sort_events",
    "sort_file",
    "timestamp_of",
]

#: events held by default
MAX_BUFFER = 1000

_ABSENT = msgspec.Raw()


class _Common(msgspec.Struct, omit_defaults=True, gc=False):
    timestamp: U64
    smp_id: Optional[U32] = None
    task: msgspec.Raw = _ABSENT


#: what sorting looks at; all other sections stay as they are in the file
_DECODED: dict[str, Any] = {
    "common": Optional[_Common],
    "tracking": Optional[TrackingSection],
    "skb-tracking": Optional[SkbTrackingSection],
    "ovs": Optional[OvsSection],
    "ovs-detrace": Optional[OvsDetraceSection],
}

#: an event of which only what sorting needs is decoded; encodes to the same JSON as a decoded one
SortEvent: Any = msgspec.defstruct(
    "SortEvent",
    [
        (attribute(key), _DECODED[key], None) if key in _DECODED else (attribute(key), msgspec.Raw, _ABSENT)
        for key in Event.__struct_encode_fields__
    ],
    bases=(BaseEvent,),
    omit_defaults=True,
    gc=False,
)


def timestamp_of(event: Any) -> int:
    """The time of an event; 0 without a common section."""
    common = event.common
    return 0 if common is None else common.timestamp


_encode_lines = msgspec.json.Encoder().encode_lines
#: series written at once
_BATCH = 64


class Sorter:
    """Holds events back until *max_buffer* of them are there, then lets the oldest series go; 0: all."""

    def __init__(self, max_buffer: int = MAX_BUFFER) -> None:
        self._max_buffer = max_buffer
        self._tracker = Tracker(REMEMBERED if max_buffer else 0)
        self._series: dict[int, list[Any]] = {}
        #: keys of `_series`, as a heap
        self._keys: list[int] = []
        self._untracked: deque[Any] = deque()
        #: the startup event a file begins with: to be read again, the sorted file must begin with it too, also
        #: where packets were seen before it (a set of split files, read from the middle)
        self._startup: Any = None
        self._held = 0
        #: flow -> the last that is known about it
        self._flows: dict[Any, OvsDetraceSection] = {}

    def add(self, events: Iterable[Any]) -> Iterator[list[Any]]:
        """Take *events*; gives the series that had to go to make room."""
        track, series, keys = self._tracker.track, self._series, self._keys
        limit = self._max_buffer or sys.maxsize
        for event in events:
            if self._startup is None:
                self._startup = event
            packet = track(event)
            if packet is not None:
                key = packet.key
            elif event.tracking is not None:
                key = event.tracking.skb.tracking_id()
            else:
                key = -1
                self._add_untracked(event)
            if key >= 0:
                if key in series:
                    series[key].append(event)
                else:
                    series[key] = [event]
                    heappush(keys, key)
            self._held += 1
            while self._held >= limit:
                yield self._pop()

    def flush(self) -> Iterator[list[Any]]:
        """The series still held."""
        while self._held:
            yield self._pop()

    def _add_untracked(self, event: Any) -> None:
        self._untracked.append(event)
        detrace = event.ovs_detrace
        if detrace is not None:
            self._flows[(detrace.ufid, detrace.flow, detrace.sf_acts)] = detrace

    def _pop(self) -> list[Any]:
        first = self._untracked[0] if self._untracked else None
        if first is not None and (
            not self._keys or first is self._startup or self._keys[0] >> 64 >= timestamp_of(first)
        ):
            self._held -= 1
            return [self._untracked.popleft()]
        events = self._series.pop(heappop(self._keys))
        self._held -= len(events)
        if self._flows:
            for event in events:
                if isinstance(event.ovs, OvsFlowLookup):
                    self._enrich(event)
        return events

    def _enrich(self, event: Any) -> None:
        """Add to a flow look-up what is known of the flow by now."""
        lookup = event.ovs
        detrace = self._flows.get((lookup.ufid, lookup.flow, lookup.sf_acts))
        if detrace is not None:
            event.ovs = msgspec.structs.replace(lookup, dpflow=detrace.dpflow, ofpflows=detrace.ofpflows)


def sort_events(
    batches: Iterable[Iterable[Any]],
    max_buffer: int = MAX_BUFFER,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[list[Any]]:
    """The series of all events in *batches*, each in file order, oldest first as far as *max_buffer* allows.

    Once *stopped* says so, no further batch is read: what is held comes out, and that is it.
    """
    sorter = Sorter(max_buffer)
    for batch in batches:
        yield from sorter.add(batch)
        if stopped():
            break
    yield from sorter.flush()


def sort_file(
    reader: EventReader,
    emit: Callable[[list[Any]], None],
    max_buffer: int = MAX_BUFFER,
    stopped: Callable[[], bool] = lambda: False,
    progress: bool = False,
) -> None:
    """Hand the series of all events of *reader* to *emit*; at the end raises what ended the file early.

    *progress* says to show how far it is, see `watch`.
    """
    decoder = BlockDecoder(reader)
    errors: list[RetisError] = []

    def batches() -> Iterator[Iterable[Any]]:
        for block in reader.source.blocks():
            yield decoder.lines(block)

    def batches_until_error() -> Iterator[Iterator[Any]]:
        try:
            for batch in batches():
                yield _until_error(batch, errors)
                if errors:
                    return
        except RetisError as error:
            errors.append(error)

    with watch(reader.source, stopped, progress) as watched:
        for series in sort_events(batches_until_error(), max_buffer, watched):
            emit(series)
    if errors:
        raise errors[0]


def _until_error(events: Iterable[Any], errors: list[RetisError]) -> Iterator[Any]:
    try:
        yield from events
    except RetisError as error:
        errors.append(error)


def check_output(out: str, reader: EventReader) -> None:
    """Raise RetisError if *reader* cannot be sorted to the file *out*."""
    if reader.level != LATEST:
        raise RetisError("Storing sorted events is not supported (input event format is too old, remove `--out`)")
    check_not_input(out, reader.source, "sort a file")


class SeriesWriter:
    """Writes series to a file, some of them at once; leaving it as a context writes the rest."""

    def __init__(self, out: str) -> None:
        self._writer = EventWriter(out)
        self._held: list[list[Any]] = []

    def write(self, series: list[Any]) -> None:
        """Write *series* as a line. It must not be changed afterwards."""
        self._held.append(series)
        if len(self._held) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Encode what is held."""
        self._writer.write_lines(_encode_lines(self._held))
        self._held.clear()

    def __enter__(self) -> "SeriesWriter":
        return self

    def __exit__(self, kind: Optional[type[BaseException]], *details: object) -> None:
        with self._writer:
            if kind is None or issubclass(kind, RetisError):
                self.flush()


class SeriesPrinter:
    """Prints series to *out*, some of them at once; leaving it as a context prints the rest."""

    def __init__(self, out: BinaryIO, style: Style) -> None:
        self._out = out
        self._text = TextRenderer(style).series
        self._texts: list[str] = []

    def write(self, series: list[Any]) -> None:
        """Print *series*. Series may be changed afterwards, their events may not."""
        self._texts.append(f"{self._text(series)}\n\n")
        if len(self._texts) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the system."""
        self._out.write("".join(self._texts).encode())
        self._texts.clear()
        self._out.flush()

    def __enter__(self) -> "SeriesPrinter":
        return self

    def __exit__(self, kind: Optional[type[BaseException]], *details: object) -> None:
        if kind is None or not issubclass(kind, BrokenPipeError):
            self.flush()
