"""How far a command is with its file: a bar on stderr, for a person who waits at a terminal.

Commands ask between blocks whether they have been told to stop. `watch` wraps that question, so that drawing needs
neither a thread, which does not go well with forked workers, nor a call of its own in any loop.
"""

from __future__ import annotations

import logging
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from retis_py.events.source import EventSource

__all__ = ["DELAY", "quiet_stdout", "watch"]

#: seconds after which somebody may wonder whether there is any progress
DELAY = 2.0
#: seconds between two looks
_INTERVAL = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


def quiet_stdout() -> bool:
    """Whether what goes to stdout stays off the terminal: a file, or /dev/null.

    Of a pipe nobody knows: what reads it may well write to the terminal (a pager, grep), and a bar would be
    drawn across that.
    """
    try:
        mode = os.fstat(1).st_mode
    except OSError:  # closed
        return True
    return stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(1))


@contextmanager
def watch(
    source: EventSource, stopped: Callable[[], bool], wanted: bool = True
) -> Iterator[Callable[[], bool]]:
    """*stopped*, which when asked also shows how far *source* is read, if that takes longer than `DELAY`.

    Nothing is shown if stderr is no terminal, and nothing stays on it.
    """
    if not wanted or not _is_terminal():
        yield stopped
        return
    bar = _Bar(source, stopped)
    try:
        yield bar.stopped
    finally:
        bar.close()


def _is_terminal() -> bool:
    if os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        return False
    try:
        return sys.stderr.fileno() == 2 and os.isatty(2)
    except (AttributeError, OSError, ValueError):  # none, or a stand-in
        return False


def _in_foreground() -> bool:
    """Whether the terminal is ours at the moment, and not that of a shell that has us in the background."""
    try:
        return os.tcgetpgrp(2) == os.getpgrp()
    except OSError:  # not the terminal of our session
        return False


class _Bar:
    def __init__(self, source: EventSource, stopped: Callable[[], bool]) -> None:
        self._source = source
        self._stopped = stopped
        self._process = os.getpid()
        self._due = time.monotonic() + DELAY
        self._progress: Any = None
        self._task: Any = None

    def stopped(self) -> bool:
        """What the function asks that it wraps; draws when it is time."""
        if time.monotonic() >= self._due:
            self._draw()
        return self._stopped()

    def _draw(self) -> None:
        if os.getpid() != self._process:  # a worker: the first process knows enough
            self._due = float("inf")
            return
        if self._stopped() or not _in_foreground():
            self.close()
        else:
            # a signal that comes now has a log line to write, which must not end up within the bar
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            try:
                if self._progress is None:
                    self._open()
                self._progress.update(self._task, completed=min(self._source.done, self._total))
                self._progress.refresh()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._due = time.monotonic() + _INTERVAL

    def _open(self) -> None:
        # 0.1 s to import, which files that are read sooner do not pay
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TimeRemainingColumn

        self._total = self._source.size()
        self._progress = Progress(
            BarColumn(),
            TaskProgressColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True, force_terminal=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=self._total)
        self._progress.start()
        for handler in _log_handlers():
            handler.addFilter(self._make_way)

    def close(self) -> None:
        """Take the bar away; it may come back."""
        if self._progress is None:
            return
        for handler in _log_handlers():
            handler.removeFilter(self._make_way)
        self._progress.stop()
        self._progress = None

    def _make_way(self, record: logging.LogRecord) -> bool:
        """A log line comes: it takes the place of the bar, which is drawn again below it."""
        self.close()
        return True


def _log_handlers() -> list[logging.Handler]:
    return logging.getLogger("retis_py").handlers
