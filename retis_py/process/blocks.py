"""Decoding event files a block of lines at a time, and on all cores.

`EventReader` gives one checked event after the other and knows how to name what is wrong with a line.
Commands that look at a few sections only are faster if msgspec decodes a whole block; at the first problem
the block is handed back to the reader, which finds it again and says what it is.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from retis_py.errors import EventFileError, RetisError
from retis_py.events.file import Reader, is_utf8
from retis_py.events.source import MAX_LINE, Block, EventSource
from retis_py.events.version import LATEST

__all__ = ["BlockDecoder", "cores", "count_lines", "ordered_map"]

Result = TypeVar("Result")

#: bytes a worker takes at once: large enough to forget the cost of a task, small enough for memory and
#: balance
PIECE = 1 << 18
#: files below this are read by one process: starting workers takes a few milliseconds
_WORTH_IT = 8 << 20
#: all workers read the same disk and feed one consumer; more do not help
_MAX_WORKERS = 4


class BlockDecoder:
    """Decodes all lines of a block at once, to the events or series of *reader*."""

    def __init__(self, reader: Reader[Any]) -> None:
        self._reader = reader
        line = list[reader.event_type] if reader.is_sorted else reader.event_type  # type: ignore[name-defined]
        self._decoder = msgspec.json.Decoder(line)

    def items(self, block: Block) -> Iterator[Any]:
        """What the lines of *block* hold. Raises EventFileError at the first bad line, not before.

        Not checked is what types of events cannot say: numbers beyond 64 bits.
        """
        data = block.data
        if data and self._reader.level == LATEST and is_utf8(data):
            try:
                items = self._decoder.decode_lines(data)
            except (msgspec.DecodeError, RecursionError):
                pass
            else:
                # msgspec skips empty lines and does not mind two values on one: the reader does
                if len(items) == count_lines(data):
                    return iter(items)
        return self.checked(block)

    def lines(self, block: Block) -> Iterator[Any]:
        """The events of *block*, checked. What is not decoded keeps a line alive and not the whole block."""
        data = block.data
        if data and self._reader.level == LATEST and is_utf8(data):
            try:
                events = list(map(self._decoder.decode, data.removesuffix(b"\n").split(b"\n")))
                deque(map(self._reader.validate, events), maxlen=0)
                return iter(events)
            except (msgspec.DecodeError, ValueError, RecursionError):
                pass
        return self.checked(block)

    def checked(self, block: Block) -> Iterator[Any]:
        """One by one, as the reader does it."""
        return self._reader.read(block) if block.data else iter(())


def count_lines(data: bytes) -> int:
    """Lines in *data*; four times as fast as ``data.count``, which looks at every byte on its own."""
    find = data.find
    count = position = 0
    while position := find(b"\n", position) + 1:
        count += 1
    return count + (bool(data) and not data.endswith(b"\n"))


def cores() -> int:
    """How many processes are worth starting."""
    try:
        available = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        available = os.cpu_count() or 1
    return min(available, _MAX_WORKERS)


def ordered_map(
    source: EventSource, function: Callable[[Block], Result], workers: int | None = None
) -> Iterator[Result]:
    """``map(function, source.blocks())`` by several processes; blocks are of another size. Results are
    pickled.

    An error in *function* or in the file is raised where its result would have come. Processes are forked, so
    *function* may be anything, but what it changes stays in its process: no state from block to block.
    """
    paths = list(source.paths())
    count = cores() if workers is None else workers
    if count < 2 or (workers is None and source.size() < _WORTH_IT):
        for block in source.blocks():
            yield function(block)
        return
    source.done = 0
    team = [_Worker(paths, function, index, count) for index in range(count)]
    try:
        turn = 0
        while True:
            result = team[turn % count].receive()
            if result is _END:
                return
            source.done += PIECE
            yield result
            turn += 1
    finally:
        for worker in team:
            worker.stop()


_END = object()
#: what a message is, its length, and that of the bytes that follow it
_HEADER = struct.Struct("<BQQ")
_RESULT, _ERROR, _LAST = range(3)
#: bytes a worker may be ahead of its consumer: more than a result, where the system allows it
_PIPE = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of include/uapi/linux/fcntl.h: in Python's fcntl from 3.10 on


class _Worker:
    """A forked process that takes every *count*-th piece, beginning with *index*."""

    def __init__(self, paths: list[str], function: Callable[[Block], Any], index: int, count: int) -> None:
        read_end, write_end = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(write_end, _SET_PIPE_SIZE, _PIPE)
        self._pid = os.fork()
        if not self._pid:
            status = 1
            try:
                os.close(read_end)
                # the parent handles signals, and ends us
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
                    signal.signal(number, signal.SIG_IGN)
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                with open(write_end, "wb", buffering=0) as out:
                    _work(paths, function, index, count, out)
                status = 0
            finally:
                os._exit(status)
        os.close(write_end)
        self._results = os.fdopen(read_end, "rb", buffering=1 << 16)

    def receive(self) -> Any:
        """The next result, `_END` when there is none. Raises what the worker raised."""
        kind, length, extra = _HEADER.unpack(self._read(_HEADER.size))
        value = pickle.loads(self._read(length), buffers=[self._read(extra)])
        if kind == _ERROR:
            raise value
        return _END if kind == _LAST else value

    def _read(self, length: int) -> bytearray:
        data = bytearray(length)
        if self._results.readinto(data) < length:
            raise RetisError("a worker process ended unexpectedly", "is there enough memory?")
        return data

    def stop(self) -> None:
        self._results.close()
        # closing the pipe is not enough: workers forked later hold copies of it
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _work(paths: list[str], function: Callable[[Block], Any], index: int, count: int, out: Any) -> None:
    def send(kind: int, value: Any) -> None:
        # large bytes, wrapped as PickleBuffer, follow as they are: at most one of them per result
        buffers: list[pickle.PickleBuffer] = []
        body = pickle.dumps(value, 5, buffer_callback=buffers.append)
        extra = buffers[0].raw() if buffers and buffers[0].raw().nbytes else memoryview(b"")
        for part in (_HEADER.pack(kind, len(body), extra.nbytes) + body, extra):
            data = memoryview(part)
            while data:
                data = data[out.write(data) :]

    try:
        for block in _pieces(paths, index, count):
            send(_RESULT, function(block))
    except RetisError as error:
        send(_ERROR, error)
        return
    send(_LAST, None)


def _pieces(paths: list[str], index: int, count: int) -> Iterator[Block]:
    """Every *count*-th piece of the files: the lines that begin within its `PIECE` bytes, maybe none."""
    turn = 0
    for path in paths:
        with open(path, "rb") as file:
            for start in range(0, max(os.fstat(file.fileno()).st_size, 1), PIECE):
                if turn % count == index:
                    yield _piece(path, file.fileno(), start)
                turn += 1


def _piece(path: str, fd: int, start: int) -> Block:
    # the byte before tells whether a line begins at *start*
    lead = 1 if start else 0
    data = os.pread(fd, PIECE + lead, start - lead)
    first = data.find(b"\n") + 1 if lead else 0
    if lead and not first:
        return Block(path, start, b"")
    offset = start - lead + first
    end = start + PIECE
    if len(data) == PIECE + lead and not data.endswith(b"\n"):
        parts = [data]
        while chunk := os.pread(fd, 1 << 16, end):
            newline = chunk.find(b"\n") + 1
            parts.append(chunk[:newline] if newline else chunk)
            end += len(parts[-1])
            if newline:
                break
            if end - offset > MAX_LINE + PIECE:
                number = Block(path, offset, data[first:]).line_number(data.rfind(b"\n") + 1 - first)
                raise EventFileError(f"{path}: line {number}: longer than {MAX_LINE >> 20} MiB")
        data = b"".join(parts)
    return Block(path, offset, data[first:])
