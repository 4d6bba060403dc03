"""Work on the blocks of an event file in several processes, output in file order.

Every process walks over the file and works on every n-th block. A token goes round: who holds it writes the
result for its block and passes it on. So output has the order of the file, nothing is copied between
processes, and memory stays at a block per process. A token that cannot arrive any more (end of pipe)
stops the others.
"""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

from retis_py.errors import RetisError
from retis_py.events.source import Block, EventSource

__all__ = ["Job", "run"]

#: files below this size, in bytes, are not worth a second process
_SMALL = 4 << 20
_MOST_WORKERS = 4
_TOKEN = b"t"


class Job(Protocol):
    """Work on blocks. Each process has its own copy, made by fork."""

    def work(self, block: Block) -> tuple[bytes, RetisError | None]:
        """The output for *block*, and what ends the work after it."""

    def skip(self, block: Block) -> None:
        """*block*, which comes before the next one to work on, is another process's."""

    def result(self) -> Any:
        """What this process found out beside the output."""


def run(source: EventSource, job: Job, out: int, stopped: Callable[[], bool]) -> list[Any]:
    """Have *job* work on all of *source* and write what it makes of it to the file descriptor *out*.

    Returns the results of all processes. *stopped* is asked between blocks. Raises what `Job.work` returned,
    after writing all before it, and BrokenPipeError when nobody reads the output.
    """
    count = min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
    if count < 2 or os.path.getsize(source.path) < _SMALL:
        _alone(source, job, out, stopped)
        return [job.result()]
    return _Ring(source, job, out, stopped, count).run()


def _alone(source: EventSource, job: Job, out: int, stopped: Callable[[], bool]) -> None:
    for block in source.blocks():
        text, error = job.work(block)
        _write(out, text)
        if error is not None:
            raise error
        if stopped():
            return


def _write(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


class _Ring:
    """The processes: this one is number 0."""

    def __init__(
        self, source: EventSource, job: Job, out: int, stopped: Callable[[], bool], count: int
    ) -> None:
        self.source, self.job, self.out, self.stopped, self.count = source, job, out, stopped, count
        #: the pipe number i brings the token to process i
        self.tokens = [os.pipe() for _ in range(count)]
        self.answers: list[int] = []
        self.children: list[int] = []

    def run(self) -> list[Any]:
        os.write(self.tokens[0][1], _TOKEN)
        gc.collect()
        gc.freeze()  # nothing older than the fork is worth a look, or a copied page
        try:
            for number in range(1, self.count):
                self._fork(number)
            self._keep(0)
            try:
                self._work(0)
            finally:
                self._close(0)
                results = self._join()
        finally:
            gc.unfreeze()
        return [self.job.result(), *results]

    def _fork(self, number: int) -> None:
        answer, reply = os.pipe()
        pid = os.fork()
        if pid:
            os.close(reply)
            self.answers.append(answer)
            self.children.append(pid)
            return
        status = 1
        try:
            for earlier in (answer, *self.answers):
                os.close(earlier)
            self._keep(number)
            error: BaseException | None = None
            try:
                self._work(number)
            except (RetisError, OSError, MemoryError, KeyboardInterrupt) as caught:
                error = caught
            with os.fdopen(reply, "wb") as pipe:
                pickle.dump((error, None if error else self.job.result()), pipe)
            status = 0
        finally:
            os._exit(status)  # and none of the parent's clean-up

    def _keep(self, number: int) -> None:
        """Close all ends of the token pipes but the two of process *number*."""
        after = (number + 1) % self.count
        for index, (read, write) in enumerate(self.tokens):
            if index != number:
                os.close(read)
            if index != after:
                os.close(write)

    def _close(self, number: int) -> None:
        os.close(self.tokens[number][0])
        os.close(self.tokens[(number + 1) % self.count][1])

    def _work(self, number: int) -> None:
        token, after = self.tokens[number][0], self.tokens[(number + 1) % self.count][1]
        for index, block in self._numbered():
            if index % self.count != number:
                self.job.skip(block)
                continue
            text, error = self.job.work(block)
            if not os.read(token, 1):
                return  # a process before this one ended: so does the output
            _write(self.out, text)
            if error is not None:
                raise error
            if self.stopped():
                return
            with suppress(BrokenPipeError):  # the next process may have come to the end of the file already
                os.write(after, _TOKEN)

    def _numbered(self) -> Iterator[tuple[int, Block]]:
        """All blocks. An error of the file itself counts as the work on the block it came instead of."""
        return enumerate(self.source.blocks())

    def _join(self) -> list[Any]:
        """Wait for the other processes; raise the first of their errors."""
        results = []
        errors: list[BaseException] = []
        for answer, pid in zip(self.answers, self.children):
            with os.fdopen(answer, "rb") as pipe:
                data = pipe.read()
            _, status = os.waitpid(pid, 0)
            if not data:
                errors.append(RetisError(f"a worker process died (status {status})"))
                continue
            error, result = pickle.loads(data)
            if error is not None:
                errors.append(error)
            else:
                results.append(result)
        if errors:
            raise errors[0]
        return results
