"""Monotonic times as dates."""

from __future__ import annotations

from datetime import datetime, timedelta

__all__ = ["Clock"]

_EPOCH = datetime(1970, 1, 1)
_SECOND = 1_000_000_000


class Clock:
    """Turns CLOCK_MONOTONIC nanoseconds into UTC dates, by the offset a startup event tells."""

    def __init__(self, offset: int) -> None:
        #: CLOCK_REALTIME - CLOCK_MONOTONIC, in ns
        self.offset = offset
        self._second = -1
        self._date = ""

    def utc(self, timestamp: int) -> str:
        """``YYYY-MM-DD HH:MM:SS.uuuuuu``, truncated to microseconds; plain ns beyond the years 1 to 9999."""
        second, ns = divmod(timestamp + self.offset, _SECOND)
        if second != self._second:
            try:
                self._date = (_EPOCH + timedelta(seconds=second)).isoformat(" ", "seconds")
            except OverflowError:
                return str(timestamp)
            self._second = second
        return f"{self._date}.{ns // 1000:06d}"
