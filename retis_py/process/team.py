"""Work on the blocks of an event file by several processes, results in the order of the file.

Processes are forked from this one, which collects results and does none of the work. One pipe holds the place where
the next block begins: a worker takes it out, reads its block and puts back where that ends, so who has a core to
itself takes more blocks than who shares one. Another pipe tells who took them, which is the order of the results.
"""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import pickle
import select
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple, TypeVar

from retis_py.errors import EventFileError, RetisError
from retis_py.events.source import Block, EventSource, open_file, read_block

__all__ = ["Written", "cores", "map_blocks", "write_blocks"]

Result = TypeVar("Result")

#: files below this size, in bytes, are read by one process: starting others takes a few milliseconds
_WORTH_IT = 4 << 20
#: all workers read the same disk and feed one consumer; more do not help
_MAX_WORKERS = 4


class Written(NamedTuple):
    """What became of a block whose *text* is to be written."""

    text: bytes
    #: what the next block has to know of those before it
    state: Any
    result: Any
    #: ends the work, once *text* is written
    error: RetisError | None


def cores() -> int:
    """How many processes are worth starting."""
    try:
        available = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        available = os.cpu_count() or 1
    return min(available, _MAX_WORKERS)


def map_blocks(
    source: EventSource,
    function: Callable[[Block], Result],
    stopped: Callable[[], bool] = lambda: False,
    batch: int = 1,
) -> Iterator[Result]:
    """``map(function, source.blocks())`` by several processes, until *stopped*, which is asked in between.

    An error in *function* or in the file is raised where its result would have come. Processes are forked, so
    *function* may be anything, but what it changes stays in its process. Results are pickled; small ones are better
    sent some at once, those of *batch* blocks.
    """
    count = _workers(source)
    if count < 2:
        for block in source.blocks():
            yield function(block)
            if stopped():
                return
    else:
        yield from _team(source, lambda index, block: function(block), count, stopped, batch)


def write_blocks(
    source: EventSource,
    function: Callable[[Block, Any], Written],
    out: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Any]:
    """Write what *function* makes of each block to the file descriptor *out*; gives the results.

    The second argument of *function* is the state after the block before, at first None. As blocks are worked on
    side by side it is a guess, the last state known: when it turns out to be wrong *function* is called again. So
    *function* must do without side effects, and states should be small and change rarely.
    """
    count = _workers(source)
    if count < 2:
        state = None
        for block in source.blocks():
            text, state, result, error = function(block, state)
            _write(out, text)
            if error is not None:
                raise error
            yield result
            if stopped():
                return
        return
    # who has the turn may write; the turn for a block comes through the pipe it has by its index: no two of the
    # blocks that are being worked on have the same
    turns = [os.pipe() for _ in range(count)]
    os.write(turns[0][1], pickle.dumps(None))
    known: Any = None

    def work(index: int, block: Block) -> Any:
        nonlocal known
        written = function(block, known)
        before = pickle.loads(os.read(turns[index % count][0], select.PIPE_BUF))
        if before != known:
            written = function(block, before)
        _write(out, written.text)
        if written.error is not None:
            raise written.error
        known = written.state
        os.write(turns[(index + 1) % count][1], pickle.dumps(known))
        return written.result

    try:
        yield from _team(source, work, count, stopped, 1)
    finally:
        for pipe in turns:
            for end in pipe:
                os.close(end)


def _workers(source: EventSource) -> int:
    count = cores()
    return count if count > 1 and source.size() >= _WORTH_IT else 1


def _write(out: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


#: number of the file, offset, number of the block
_PLACE = struct.Struct("<QQQ")


class _Places:
    """Where the next block begins, shared by all workers."""

    def __init__(self, paths: list[str], batch: int) -> None:
        self._paths = paths
        self._batch = batch
        self._read, self._write = os.pipe()
        #: the number of the worker of each batch, and of each that found none
        self.order, self._order_write = os.pipe()
        self._open: tuple[int, BinaryIO] | None = None
        #: not 0: nobody takes more. In the pipe it could be missed by who comes while another looks at it.
        self._ended = mmap.mmap(-1, 1)
        self._put(0, 0, 0)

    def _put(self, file: int, offset: int, index: int) -> None:
        os.write(self._write, _PLACE.pack(file, offset, index))

    def end(self) -> None:
        """Let workers take nothing from now on."""
        self._ended[0] = 1

    def take(self, worker: int) -> tuple[int, list[Block]]:
        """The next blocks for *worker*, none at the end, and the number of the first. Raises EventFileError."""
        file, offset, index = _PLACE.unpack(os.read(self._read, _PLACE.size))
        os.write(self._order_write, bytes((worker,)))
        if self._ended[0]:
            file = len(self._paths)
        blocks: list[Block] = []
        try:
            while file < len(self._paths) and len(blocks) < self._batch:
                block = read_block(self._file(file), self._paths[file], offset)
                if block.data:
                    blocks.append(block)
                    offset += len(block.data)
                else:
                    file, offset = file + 1, 0
        except EventFileError:
            if not blocks:
                self.end()
                raise
            # it comes again for who begins there
        finally:
            self._put(file, offset, index + len(blocks))
        return index, blocks

    def _file(self, number: int) -> BinaryIO:
        if self._open is None or self._open[0] != number:
            self._open = number, open_file(self._paths[number])
        return self._open[1]

    def close(self) -> None:
        for end in (self._read, self._write, self.order, self._order_write):
            os.close(end)
        self._ended.close()


def _team(
    source: EventSource, work: Callable[[int, Block], Any], count: int, stopped: Callable[[], bool], batch: int
) -> Iterator[Any]:
    """What *work* makes of all blocks in *count* processes, in order."""
    source.done = 0
    places = _Places(list(source.paths()), batch)
    team: list[_Worker] = []
    # what is older than the fork is not worth a look or a copied page, nor one at the interpreter's end: it stays
    # frozen
    gc.freeze()
    try:
        for number in range(count):
            team.append(_Worker(places, work, number))
        told = False
        left = count
        wait = select.poll()
        wait.register(places.order, select.POLLIN)
        for worker in team:
            wait.register(worker.results, 0)  # POLLHUP always tells
        while left:
            if not any(events & select.POLLIN for _, events in wait.poll()):
                raise _died()
            worker = team[os.read(places.order, 1)[0]]
            length, results, error = worker.receive()
            source.done += length
            yield from results
            if error is not None:
                raise error
            if not length:
                left -= 1
                wait.unregister(worker.results)
            elif not told and stopped():
                told = True
                places.end()
    finally:
        places.close()
        for worker in team:
            worker.stop()


def _died() -> RetisError:
    return RetisError("a worker process ended unexpectedly", "is there enough memory?")


#: the length of a message's blocks, its own, and that of the bytes that follow it
_HEADER = struct.Struct("<QQQ")
#: bytes a worker may be ahead of its consumer: more than a result, where the system allows it
_PIPE = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of include/uapi/linux/fcntl.h: in Python's fcntl from 3.10 on


class _Worker:
    """A forked process that does *work*, and the pipe with its results."""

    def __init__(self, places: _Places, work: Callable[[int, Block], Any], number: int) -> None:
        read_end, write_end = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(write_end, _SET_PIPE_SIZE, _PIPE)
        self._pid = os.fork()
        if not self._pid:
            status = 1
            try:
                os.close(read_end)
                # the parent handles signals, and ends us
                for each in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
                    signal.signal(each, signal.SIG_IGN)
                _work(places, work, number, write_end)
                status = 0
            finally:
                os._exit(status)  # and none of the parent's clean-up
        os.close(write_end)
        self.results: Any = os.fdopen(read_end, "rb", buffering=1 << 16)

    def receive(self) -> tuple[int, list[Any], BaseException | None]:
        """Length of a batch, 0 after the last, its results, and the error that ended them."""
        blocks, length, extra = _HEADER.unpack(self._read(_HEADER.size))
        return blocks, *pickle.loads(self._read(length), buffers=[self._read(extra)])

    def _read(self, length: int) -> bytearray:
        data = bytearray(length)
        if self.results.readinto(data) < length:
            raise _died()
        return data

    def stop(self) -> None:
        self.results.close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _work(places: _Places, work: Callable[[int, Block], Any], number: int, out: int) -> None:
    blocks: list[Block] = [Block("", 0, b"")]
    error: BaseException | None = None
    while blocks and error is None:
        results: list[Any] = []
        try:
            index, blocks = places.take(number)
            for offset, block in enumerate(blocks):
                results.append(work(index + offset, block))
        except (RetisError, OSError, MemoryError) as caught:
            error = caught
        # large bytes, wrapped as PickleBuffer, follow as they are: at most one of them per message
        buffers: list[pickle.PickleBuffer] = []
        body = pickle.dumps((results, error), 5, buffer_callback=buffers.append)
        extra = buffers[0].raw() if buffers and buffers[0].raw().nbytes else memoryview(b"")
        length = sum(len(block.data) for block in blocks)
        _write(out, _HEADER.pack(length, len(body), extra.nbytes) + body)
        _write(out, extra)
