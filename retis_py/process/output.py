"""Outputs that must not be inputs: opening a file for writing empties it."""

from __future__ import annotations

import os

from retis_py.errors import RetisError
from retis_py.events.source import EventSource

__all__ = ["check_not_input"]


def check_not_input(out: str | os.PathLike[str], source: EventSource, what: str) -> None:
    """Raise RetisError, that one cannot *what* in place, if the file *out* is one of those that *source* reads."""
    for path in source.paths():
        same = os.path.realpath(out) == os.path.realpath(path)
        if same or (os.path.exists(out) and os.path.exists(path) and os.path.samefile(out, path)):
            raise RetisError(
                f"Cannot {what} in-place. Please specify an output file that's different to the input one."
            )
