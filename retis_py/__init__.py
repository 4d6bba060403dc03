"""retis_py: trace packets through the Linux network stack.

The classes to read event files with are those of upstream's library, see `retis_py.api`. They are loaded when
first used: importing the package alone costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retis_py.version import __version__

if TYPE_CHECKING:
    from retis_py.api import Event, EventFile, EventReader, EventSeries, SeriesReader, to_arrow, to_pandas

__all__ = [
    "Event",
    "EventFile",
    "EventReader",
    "EventSeries",
    "SeriesReader",
    "__version__",
    "to_arrow",
    "to_pandas",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'retis_py' has no attribute '{name}'")
    from retis_py import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
