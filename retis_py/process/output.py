"""What commands with an output share: it must not be an input, and says what is not in it."""

from __future__ import annotations

import logging
import os

from retis_py.errors import RetisError
from retis_py.events.source import EventSource

__all__ = ["check_not_input", "report_skipped"]

log = logging.getLogger(__name__)


def check_not_input(out: str | os.PathLike[str], source: EventSource, what: str) -> None:
    """Raise RetisError, that one cannot *what* in place, if the file *out* is one of those that *source* reads."""
    for path in source.paths():
        same = os.path.realpath(out) == os.path.realpath(path)
        if same or (os.path.exists(out) and os.path.exists(path) and os.path.samefile(out, path)):
            raise RetisError(
                f"Cannot {what} in-place. Please specify an output file that's different to the input one."
            )


def report_skipped(count: int) -> None:
    """Warn that *count* events have not been printed, if there are such."""
    if count:
        log.warning("%d event(s) without a common section not printed", count)
