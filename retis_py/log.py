"""Log lines: facts with a subject, on stderr; stdout belongs to events.

Format follows upstream: at error, warn and info the line is the message, with ``WARN`` or ``ERROR`` padded to five
characters in front where it is one; at debug and trace every line is ``HH:MM:SS.uuuuuu LEVEL message`` (UTC).
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TextIO

from retis_py.events.visible import visible_lines

__all__ = ["LEVELS", "TRACE", "colour_allowed", "setup", "trace"]

TRACE = 5
logging.addLevelName(TRACE, "TRACE")
logging.addLevelName(logging.WARNING, "WARN")

#: ``--log-level`` values, most severe first
LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_COLOURS = {"ERROR": "31", "WARN": "33", "INFO": "34", "DEBUG": "36", "TRACE": "37"}


def trace(logger: logging.Logger, message: str, *args: object) -> None:
    """Log below debug: what only a developer of retis_py would ask."""
    logger.log(TRACE, message, *args)


def colour_allowed() -> bool:
    """Whether the environment lets us colour: a terminal that can, and no ``NO_COLOR`` (https://no-color.org)."""
    return os.environ.get("TERM", "") not in ("", "dumb") and not os.environ.get("NO_COLOR")


class _Formatter(logging.Formatter):
    def __init__(self, verbose: bool, colour: bool) -> None:
        super().__init__()
        self.verbose = verbose
        self.colour = colour

    def _level(self, name: str) -> str:
        padded = f"{name:<5}"
        return f"\x1b[{_COLOURS[name]}m{padded}\x1b[0m" if self.colour and name in _COLOURS else padded

    def format(self, record: logging.LogRecord) -> str:
        message = visible_lines(record.getMessage())
        if self.verbose:
            stamp = time.strftime("%H:%M:%S", time.gmtime(record.created))
            line = f"{stamp}.{int(record.created % 1 * 1e6):06d} {self._level(record.levelname)} {message}"
        elif record.levelno >= logging.WARNING:
            line = f"{self._level(record.levelname)} {message}"
        else:
            line = message
        if record.exc_info and self.verbose:
            line += "\n" + self.formatException(record.exc_info)
        return line


def setup(level: str = "info", stream: TextIO | None = None, colour: bool | None = None) -> None:
    """Send the ``retis_py`` loggers to *stream* (default: stderr) at *level*, one of `LEVELS`."""
    out = stream if stream is not None else sys.stderr
    handler = logging.StreamHandler(out)
    verbose = LEVELS[level] <= logging.DEBUG
    handler.setFormatter(_Formatter(verbose, colour_allowed() and out.isatty() if colour is None else colour))
    root = logging.getLogger("retis_py")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(LEVELS[level])
