"""The bytes of event files: type and version from the first line, then blocks of whole lines.

Memory stays bounded whatever a file holds: blocks are of `BLOCK` bytes or one line, and no line may be longer
than `MAX_LINE`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import msgspec

from retis_py.errors import EventFileError
from retis_py.events.version import format_level

__all__ = ["BLOCK", "MAX_LINE", "Block", "EventSource", "open_file", "read_block"]

log = logging.getLogger(__name__)

#: bytes read at once: what a block's lines become fits into the processor's cache
BLOCK = 1 << 18
#: longest line accepted, in bytes: a series of 18,000 events, or an event far beyond what a kernel can report
MAX_LINE = 16 << 20


class Block(NamedTuple):
    """Whole lines of a file, from *offset* on. Only the last line of a file may lack its newline."""

    path: str
    offset: int
    data: bytes

    def line_number(self, position: int) -> int:
        """The number, from 1, of the line in the file that *position* of `data` is on.

        The file is read again for that: counting lines is only worth its time when there is an error to
        report.
        """
        with open(self.path, "rb") as file:
            left = self.offset
            number = 1 + self.data.count(b"\n", 0, position)
            while left > 0:
                chunk = file.read(min(BLOCK, left))
                if not chunk:
                    break
                number += chunk.count(b"\n")
                left -= len(chunk)
        return number


class EventSource:
    """One event file, or with *rotate* the set of split files that begins with it.

    Raises EventFileError if the first line does not say what the file is.
    """

    def __init__(self, path: str | os.PathLike[str], rotate: bool = False) -> None:
        self.path = os.fspath(path)
        self.rotate = rotate
        #: bytes read so far, by who reads all of them: for showing progress
        self.done = 0
        self._warned = False
        first = self._first_line()
        #: a series file: every line is an array of events
        self.is_sorted = isinstance(first, list)
        startup = self._startup(first)
        #: ``retis_version`` of the first file
        self.version: str = startup["retis_version"]
        try:
            #: compatibility level, see `retis_py.events.version`
            self.level = format_level(self.version)
        except ValueError as error:
            raise self._error(str(error)) from None
        self._split = rotate and not self.is_sorted and isinstance(startup.get("split_file"), dict)

    def _error(self, message: str) -> EventFileError:
        return EventFileError(f"{self.path}: {message}")

    def _first_line(self) -> Any:
        with open_file(self.path) as file:
            if not file.seekable():
                raise self._error("events cannot be read from a pipe")
            try:
                line = file.readline(MAX_LINE + 1)
            except OSError as error:
                raise self._error(os.strerror(error.errno or 0)) from None
        if not line:
            raise self._error("File is empty")
        if len(line) > MAX_LINE:
            raise self._error(f"line 1: longer than {MAX_LINE >> 20} MiB")
        try:
            line.decode()
        except UnicodeDecodeError:
            raise self._error("line 1: stream did not contain valid UTF-8") from None
        try:
            first = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._error(f"Failed to parse event file: {_json_error(error)}") from None
        if not isinstance(first, (dict, list)):
            raise self._error("File contains invalid json data")
        return first

    def _startup(self, first: Any) -> dict[str, Any]:
        if isinstance(first, list):
            if not first:
                raise self._error("Invalid or missing events")
            first = first[-1]
        startup = first.get("startup") if isinstance(first, dict) else None
        if not isinstance(startup, dict) or not isinstance(startup.get("retis_version"), str):
            raise self._error("Cannot find version in startup event")
        return startup

    def paths(self) -> Iterator[str]:
        """The files in order. Split files go on until one is missing."""
        yield self.path
        if not self._split:
            return
        base, _, number = self.path.rpartition(".")
        if not (base and number.isascii() and number.isdigit()):
            if not self._warned:
                log.error("%s has an invalid extension (should be a number)", self.path)
                self._warned = True
            return
        index = int(number) + 1
        while os.path.exists(f"{base}.{index}"):
            yield f"{base}.{index}"
            index += 1

    def size(self) -> int:
        """Bytes of all files."""
        return sum(os.path.getsize(path) for path in self.paths() if os.path.exists(path))

    def blocks(self) -> Iterator[Block]:
        """All lines of all files. A line that is too long is an error, raised when it is reached."""
        self.done = 0
        for path in self.paths():
            with open_file(path) as file:
                offset = 0
                while (block := read_block(file, path, offset)).data:
                    offset += len(block.data)
                    self.done += len(block.data)
                    yield block


def open_file(path: str) -> BinaryIO:
    """*path*, to be read. Raises EventFileError."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise EventFileError(
            f"Could not open {path}: {os.strerror(error.errno or 0)} (os error {error.errno})"
        ) from None


def read_block(file: BinaryIO, path: str, offset: int) -> Block:
    """The block at *offset*, where a line begins; one without data at the end of the file."""
    descriptor = file.fileno()
    try:
        data = os.pread(descriptor, BLOCK, offset)
        end = data.rfind(b"\n") + 1
        if not end and data:
            data = _long_line(descriptor, path, offset, data)
            end = len(data)
    except OSError as error:
        raise EventFileError(f"{path}: {os.strerror(error.errno or 0)}") from None
    return Block(path, offset, data[:end])


def _long_line(descriptor: int, path: str, offset: int, start: bytes) -> bytes:
    """The line at *offset*, which begins with *start*, and those that end in the last part of it."""
    parts = [start]
    length = len(start)
    end = 0
    while not end and (part := os.pread(descriptor, BLOCK, offset + length)):
        end = part.rfind(b"\n") + 1
        if length + (part.find(b"\n") if end else len(part)) > MAX_LINE:
            number = Block(path, offset, start).line_number(0)
            raise EventFileError(f"{path}: line {number}: longer than {MAX_LINE >> 20} MiB")
        parts.append(part[:end] if end else part)
        length += len(part)
    return b"".join(parts)


def _json_error(error: Exception) -> str:
    text = str(error)
    start, _, byte = text.partition(" (byte ")
    if start == "JSON is malformed: invalid character":
        return f'Error("expected value", line: 1, column: {int(byte.rstrip(")")) + 1})'
    return "nested too deeply" if isinstance(error, RecursionError) else text
