"""Reading event files: one event per line, or one series of events per line (a file that ``sort`` wrote).

    events = open_events("retis.data", Event)
    for event in events:
        ...

The type of events is passed in: sections belong to collectors, which this package does not know. A type with
fewer sections than `retis_py.collectors.Event` reads faster: msgspec skips what is not asked for.

Differences from upstream's reader, all on the lenient side: a key given twice is no error (the last one
counts), split files may lack their last newline, and a truncated last line ends the reading with
`TruncatedFile` after everything before it was delivered.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

from retis_py.errors import EventFileError
from retis_py.events.compat import upgrade
from retis_py.events.ranges import make_validator
from retis_py.events.source import Block, EventSource
from retis_py.events.version import LATEST
from retis_py.events.writer import EventWriter

__all__ = ["EventReader", "EventWriter", "Reader", "SeriesReader", "TruncatedFile", "is_utf8", "open_events"]

Item = TypeVar("Item")


class TruncatedFile(EventFileError):
    """The last line of a file is not complete: its collection was killed. All before it is delivered."""


class Reader(Generic[Item]):
    """What readers of both types of files have in common; iterating starts at the first line each time.

    Raises EventFileError for a file that is none, and while iterating for a line that is none, naming both.
    """

    #: what a line is
    sorted_files: bool

    def __init__(self, path: str | os.PathLike[str], event_type: Any, rotate: bool = False) -> None:
        #: the files and what they are
        self.source = EventSource(path, rotate)
        self.event_type = event_type
        self._decode = _make_decoder(self._line_type(), self.source.level)

    @property
    def validate(self) -> Callable[[Any], None]:
        """Raises ValueError for a decoded event that its types alone do not find invalid.

        Made when first used: commands with a faster way through sound files never do.
        """
        return make_validator(self.event_type)

    @property
    def path(self) -> str:
        """The (first) file."""
        return self.source.path

    @property
    def version(self) -> str:
        """``retis_version`` of the (first) file."""
        return self.source.version

    @property
    def level(self) -> int:
        """Compatibility level of the format: `retis_py.events.version.LATEST` for files of today."""
        return self.source.level

    @property
    def is_sorted(self) -> bool:
        """Whether lines are series of events."""
        return self.source.is_sorted

    def __iter__(self) -> Iterator[Item]:
        for block in self.source.blocks():
            yield from self.read(block)

    def read(self, block: Block) -> Iterator[Item]:
        """Decode the lines of *block*."""
        data = block.data
        utf8 = is_utf8(data)
        decode, check = self._decode, self._checker()
        position = 0
        try:
            for line in data[:-1].split(b"\n") if data.endswith(b"\n") else data.split(b"\n"):
                if not utf8 and not is_utf8(line):
                    raise ValueError("stream did not contain valid UTF-8")
                item = decode(line)
                check(item)
                yield item
                position += len(line) + 1
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise self._error(block, position, error) from None

    def _line_type(self) -> Any:
        raise NotImplementedError

    def _checker(self) -> Callable[[Any], None]:
        """`validate` for what is on a line."""
        raise NotImplementedError

    def _error(self, block: Block, position: int, error: Exception) -> EventFileError:
        number = block.line_number(position)
        last = b"\n" not in block.data[position:]
        if last and not isinstance(error, msgspec.ValidationError) and _is_partial(block.data[position:]):
            return TruncatedFile(f"{block.path}: line {number}: truncated, the collection was cut short")
        return EventFileError(f"{block.path}: line {number}: {_reason(error, block.data, position)}")


class EventReader(Reader[Any]):
    """Iterates over the events of an event file."""

    def __init__(self, path: str | os.PathLike[str], event_type: Any, rotate: bool = False) -> None:
        super().__init__(path, event_type, rotate)
        if self.is_sorted:
            raise EventFileError(
                "Cannot create a EventReader from a sorted file. Use an SeriesReader instead"
            )

    def _line_type(self) -> Any:
        return self.event_type

    def _checker(self) -> Callable[[Any], None]:
        return self.validate


class SeriesReader(Reader[list[Any]]):
    """Iterates over the series of a series file: lists of events."""

    def __init__(self, path: str | os.PathLike[str], event_type: Any, rotate: bool = False) -> None:
        super().__init__(path, event_type, rotate)
        if not self.is_sorted:
            raise EventFileError(
                "Cannot create a SeriesReader from an unsorted file. Use an EventReader instead"
            )

    def _line_type(self) -> Any:
        return list[self.event_type]  # type: ignore[name-defined]

    def _checker(self) -> Callable[[list[Any]], None]:
        validate = self.validate

        def check(series: list[Any]) -> None:
            for event in series:
                validate(event)

        return check


def open_events(
    path: str | os.PathLike[str], event_type: Any, rotate: bool = False
) -> EventReader | SeriesReader:
    """The reader for the type of file *path* is; with *rotate* it goes on with the split files after it."""
    kind = SeriesReader if EventSource(path).is_sorted else EventReader
    return kind(path, event_type, rotate)


def _make_decoder(line_type: Any, level: int) -> Callable[[bytes], Any]:
    """A function from a line to what it holds, converting the events of older files."""
    if level == LATEST:
        return msgspec.json.Decoder(line_type).decode

    def decode(line: bytes) -> Any:
        value = msgspec.json.decode(line)
        if not isinstance(value, (dict, list)):
            raise ValueError("Unknown event format (not a map nor an array)")
        for event in value if isinstance(value, list) else [value]:
            upgrade(event, level)
        try:
            return msgspec.convert(value, line_type)
        except msgspec.ValidationError as error:
            raise ValueError(f"Event was fixed up but parsing still failed: {_validation(error)}") from None

    return decode


def is_utf8(data: bytes) -> bool:
    """Whether *data* is text: msgspec does not look into strings it skips."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_partial(line: bytes) -> bool:
    """Whether *line* is not JSON, be it that it stops within a character."""
    try:
        line.decode()
        msgspec.json.decode(line)
    except (UnicodeDecodeError, msgspec.DecodeError):
        return True
    return False


def _reason(error: Exception, data: bytes, position: int) -> str:
    """*error* in the words of upstream's reader, as far as msgspec tells."""
    if data[position : position + 1] in (b"\n", b"") and isinstance(error, msgspec.DecodeError):
        return "EOF while parsing a value"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        return _validation(error)
    text = str(error)
    if text == "Input data was truncated":
        return "EOF while parsing an object"
    return text.replace("JSON is malformed: ", "")


#: not compiled here, which takes a millisecond that sound files have no use for
_VALIDATION = (
    (r"Object missing required field `(.*?)`", r"missing field `\1`"),
    (r"Expected `(.*?)( \| null)?`, got `(.*?)`", r"invalid type: \3, expected \1"),
    (r"Expected `(.*?)( \| null)?` ([<>]=) (-?\d+)", r"invalid value: expected \1 \3 \4"),
    (r"Invalid (?:enum )?value '(.*?)'", r"unknown variant `\1`"),
    (r"Invalid base64 encoded string", "invalid value: expected raw packet as base64 string"),
)


def _validation(error: Exception) -> str:
    text = str(error)
    for pattern, words in _VALIDATION:
        text, count = re.subn(pattern, words, text, count=1)
        if count:
            break
    return text
