"""Every error a user can meet, in one family.

An error says what failed, on what, and what to do next: *message* is lower case, without a full stop, and names
the file and line or the symbol; *hint* is one more line for the way out. The command line turns each of them
into ``Error: message`` and exit status 1 (2 for `UsageError`); library users catch `RetisError`.
"""

from __future__ import annotations

__all__ = [
    "EventFileError",
    "FilterError",
    "KernelError",
    "MalformedEvent",
    "OutputError",
    "ProbeError",
    "ProfileError",
    "RetisError",
    "UsageError",
]


class RetisError(RuntimeError):
    """Base of all errors raised on purpose. It is a RuntimeError because upstream's Python API raises those."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(RetisError):
    """The command line asks for something that cannot be: exit status 2."""

    exit_code = 2


class EventFileError(RetisError):
    """An event file cannot be read: names the file and, where there is one, the line."""


class MalformedEvent(RetisError):
    """A raw event from the kernel does not have the layout that was asked for. Costs one event, never the run."""


class OutputError(RetisError):
    """An output cannot be opened or written."""


class FilterError(RetisError):
    """A packet or meta filter is not valid, or cannot be compiled for this kernel."""


class ProbeError(RetisError):
    """A probe cannot be resolved or attached."""


class KernelError(RetisError):
    """This kernel, or our rights on it, do not allow what was asked for."""


class ProfileError(RetisError):
    """A profile cannot be found, read or applied."""
