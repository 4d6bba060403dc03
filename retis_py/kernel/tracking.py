"""Garbage collection of packet identities: the entries that no probe saw the end of."""

from __future__ import annotations

import logging
import time
from typing import Any

__all__ = ["TrackingGarbage"]

_log = logging.getLogger(__name__)

#: seconds between two collections, and age of what is collected
PERIOD, MAX_AGE = 5.0, 60.0


class TrackingGarbage:
    """Deletes entries of the tracking map not seen for a minute. Call `collect` often: it keeps its own time."""

    def __init__(self, session: Any, period: float = PERIOD, max_age: float = MAX_AGE) -> None:
        self._table = session.table("tracking")
        self._session = session
        self._period, self._max_age = period, max_age
        self._next = time.monotonic() + period

    def collect(self, quiet: bool = False) -> int:
        """Delete what is too old, if it is time to; returns how many entries went."""
        if time.monotonic() < self._next:
            return 0
        self._next = time.monotonic() + self._period
        table = self._table
        limit = time.monotonic_ns() - int(self._max_age * 1e9)
        old = [(key, info.orig_head) for key, info in table.items() if info.last_seen < limit]
        for key, _ in old:
            try:
                del table[key]
            except KeyError:
                continue  # the kernel was faster
            self._session.count_collected()
            log = _log.debug if quiet else _log.warning
            log("Removed old entry from skb_tracking tracking map: %d", key.value)
        return len(old)
