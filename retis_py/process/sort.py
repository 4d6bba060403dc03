"""sort: group events by packet, oldest packet first.

Two ways through the same code: with text output events are decoded in full; with a file as only output,
sections that sorting does not look at stay the bytes they are (`SortEvent`), which is what makes it fast.
"""

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from operator import attrgetter
from typing import Any, BinaryIO, Optional

import msgspec

from retis_py.collectors import Event
from retis_py.collectors.ovs import OvsDetraceSection, OvsSection
from retis_py.collectors.skb_tracking import SkbTrackingSection
from retis_py.display import TextRenderer
from retis_py.errors import EventFileError, RetisError
from retis_py.events.core import TrackingSection
from retis_py.events.event import BaseEvent, attribute
from retis_py.events.file import EventReader
from retis_py.events.section import U32, U64, Style
from retis_py.events.version import LATEST
from retis_py.events.writer import EventWriter
from retis_py.process.blocks import BlockDecoder
from retis_py.process.output import check_not_input, report_skipped
from retis_py.process.progress import watch
from retis_py.process.series import ForeignTracking
from retis_py.process.sorter import MAX_BUFFER, LargeSeries, Sorter, timestamp_of

__all__ = [
    "MAX_BUFFER",
    "SeriesPrinter",
    "SeriesWriter",
    "SortEvent",
    "check_output",
    "sort_events",
    "sort_file",
    "timestamp_of",
]

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


_encode_lines = msgspec.json.Encoder().encode_lines
#: series written at once
_BATCH = 64
_common = attrgetter("common")


def sort_events(
    batches: Iterable[Iterable[Any]],
    max_buffer: int = MAX_BUFFER,
) -> Iterator[list[Any]]:
    """The series of all events in *batches*, each in file order, oldest first as far as *max_buffer* allows."""
    sorter = Sorter(max_buffer)
    for batch in batches:
        yield from sorter.add(batch)
    yield from sorter.flush()


def sort_file(
    reader: EventReader,
    emit: Callable[[list[Any]], None],
    max_buffer: int = MAX_BUFFER,
    stopped: Callable[[], bool] = lambda: False,
    progress: bool = False,
) -> None:
    """Hand the series of all events of *reader* to *emit*; at the end raises what ended the file early.

    Once *stopped* says so, no further block is read: what is held comes out, and that is it. *progress* says to show
    how far it is, see `watch`.
    """
    decoder = BlockDecoder(reader)
    sorter = Sorter(max_buffer)
    errors: list[RetisError] = []
    with watch(reader.source, stopped, progress) as watched:

        def early() -> Iterator[list[Any]]:
            for block in reader.source.blocks():
                lines = BytesIO(block.data)
                try:
                    yield from sorter.add(decoder.lines(block), map(len, lines))
                except ForeignTracking as error:
                    number = block.line_number(lines.tell() - 1)
                    raise EventFileError(f"{block.path}: line {number}: {error}") from None
                if watched():
                    return

        for series in _until_error(early(), errors):
            emit(series)
        for series in sorter.flush():
            emit(series)
    if errors:
        raise errors[0]


def _until_error(series: Iterable[list[Any]], errors: list[RetisError]) -> Iterator[list[Any]]:
    """*series*; what ends them early goes to *errors*: what is held is still to come."""
    try:
        yield from series
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
        if len(self._held) >= _BATCH or type(series) is LargeSeries:
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
    """Prints series to *out*, some of them at once; leaving it as a context prints the rest.

    As `print_events` does, it leaves out events without a common section, and says how many at the end.
    """

    def __init__(self, out: BinaryIO, style: Style) -> None:
        self._out = out
        self._text = TextRenderer(style).series
        self._texts: list[str] = []
        self._skipped = 0

    def write(self, series: list[Any]) -> None:
        """Print *series*. Series may be changed afterwards, their events may not."""
        events: list[Any] = series
        if None in map(_common, series):
            events = [event for event in series if event.common is not None]
            self._skipped += len(series) - len(events)
            if not events:
                return
        self._texts.append(f"{self._text(events)}\n\n")
        if len(self._texts) >= _BATCH or type(series) is LargeSeries:
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
            report_skipped(self._skipped)
