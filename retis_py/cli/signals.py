"""Ending in good order: the first termination signal asks a command to stop and finish what it began."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from types import FrameType

__all__ = ["stop_on_signals"]

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


def stop_on_signals() -> Callable[[], bool]:
    """Catch INT, TERM, QUIT and HUP from now on; the function returned tells whether one came.

    HUP comes when the terminal is closed; it stays ignored if it is (nohup).
    """
    stopped = False
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if not stopped and os.getpid() == process:  # workers got it too, but one line is enough
            log.info("Received signal, terminating...")
        stopped = True

    for number in _SIGNALS:
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue
        signal.signal(number, stop)
    return lambda: stopped
