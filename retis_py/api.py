"""Events for Python programs: the classes of upstream's library, with the same names and behaviour.

    from retis_py import EventReader
    for event in EventReader("retis.data"):
        if "skb-drop" in event:
            print(event.skb_drop.drop_reason, event.packet.to_scapy().summary())

Objects are views of typed sections and cannot be changed. Errors are `RetisError`, a RuntimeError.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Union

import msgspec

from retis_py import collectors
from retis_py.display import to_text
from retis_py.errors import EventFileError
from retis_py.events import file
from retis_py.views import View, view

__all__ = ["Event", "EventFile", "EventReader", "EventSeries", "SeriesReader", "to_arrow", "to_pandas"]

Path = Union[str, "os.PathLike[str]"]


class Event:
    """One event. Sections are attributes, None where the event does not have them, and items."""

    __slots__ = ("_event",)

    def __init__(self, event: Any) -> None:
        if not isinstance(event, collectors.Event):
            raise TypeError("events cannot be made, only read")
        object.__setattr__(self, "_event", event)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._event.__struct_fields__:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        return view(getattr(self._event, name))

    __setattr__ = View.__setattr__
    __delattr__ = View.__delattr__

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(key)
        return getattr(self, key.replace("-", "_"))

    def __contains__(self, key: str) -> bool:
        return key.replace("-", "_") in self.sections()

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._event.__struct_fields__})

    def __repr__(self) -> str:
        return repr(self.to_dict())

    def __str__(self) -> str:
        return to_text(self._event)

    def __reduce__(self) -> Any:
        return type(self), (self._event,)

    def sections(self) -> list[str]:
        """Names of the sections there are, in alphabetical order, with underscores."""
        return sorted(key.replace("-", "_") for key, _ in self._event.sections())

    def to_dict(self) -> dict[str, Any]:
        """The event as in its file."""
        event: dict[str, Any] = msgspec.to_builtins(self._event)
        return event


class EventReader:
    """Iterates, once, over the events of an event file."""

    def __init__(self, path: Path) -> None:
        self._open(path, False)

    def _open(self, path: Path, rotate: bool) -> None:
        self._events = iter(file.EventReader(path, collectors.Event, rotate))

    @classmethod
    def with_rotation(cls, path: Path) -> EventReader:
        """Goes on with the split files that follow *path*."""
        reader = cls.__new__(cls)
        reader._open(path, True)
        return reader

    def __iter__(self) -> EventReader:
        return self

    def __next__(self) -> Event:
        return Event(next(self._events))


class EventSeries:
    """The events of one packet, in order."""

    def __init__(self, events: list[Any]) -> None:
        self._events = [Event(event) for event in events]

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        common = self._events[0].common if self._events else None
        time = 0 if common is None else common.timestamp
        return f"PyEventSeries(ts = {time}, n_events = {len(self)})"


class SeriesReader:
    """Iterates, once, over the series of a file that ``retis sort`` wrote."""

    def __init__(self, path: Path) -> None:
        self._series = iter(file.SeriesReader(path, collectors.Event))

    def __iter__(self) -> SeriesReader:
        return self

    def __next__(self) -> EventSeries:
        return EventSeries(next(self._series))


class EventFile:
    """A file of events or series: as many readers of it as needed."""

    def __init__(self, path: Path) -> None:
        self._path, self._rotate = path, False
        self._sorted = file.open_events(path, collectors.Event).is_sorted

    @classmethod
    def with_rotation(cls, path: Path) -> EventFile:
        """With the split files that follow *path*."""
        made = cls(path)
        if made._sorted:
            raise EventFileError("Cannot use rotation on event series")
        made._rotate = True
        return made

    def sorted(self) -> bool:
        """Whether this is a file of series."""
        return self._sorted

    def events(self) -> EventReader:
        """A new reader of the events."""
        return EventReader.with_rotation(self._path) if self._rotate else EventReader(self._path)

    def series(self) -> SeriesReader:
        """A new reader of the series."""
        return SeriesReader(self._path)


def to_arrow(path: Path, rotate: bool = False) -> Any:
    """The events of a file as a ``pyarrow.Table``: one row per event, one column per section.

    With *rotate*, the split files that follow *path* are read too. Needs pyarrow (``retis_py[arrow]``).
    """
    from retis_py.process.table import read_table

    return read_table(path, rotate)


def to_pandas(path: Path, rotate: bool = False) -> Any:
    """The events of a file as a ``pandas.DataFrame``: one column per field there is, as ``skb_drop.drop_reason``.

    With *rotate*, the split files that follow *path* are read too. Needs pandas (``retis_py[pandas]``).
    """
    from retis_py.process.table import to_frame

    return to_frame(path, rotate)
