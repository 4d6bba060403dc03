"""Puts the events of all CPUs in order of time.

A CPU's events arrive in order, CPUs one after the other. An event that began before the buffers were last read, and
a little earlier than that, has arrived: nothing that is still missing can come before it.
"""

from __future__ import annotations

import struct
import time

__all__ = ["TimeOrder", "now"]

_timestamp = struct.Struct("=Q").unpack_from


class TimeOrder:
    """Holds raw events back until no earlier one can come. *hold* is how long a probe may take, in ns."""

    def __init__(self, hold: int = 20_000_000) -> None:
        self.add = self._new().append
        self._hold = hold
        self._last = 0
        #: events that came after a later one had left
        self.late = 0

    def _new(self) -> list[bytes]:
        self._held: list[bytes] = []
        return self._held

    def limit(self, read_began: int | None) -> int | None:
        """Up to which time `ready` lets events go, given the same *read_began*."""
        return None if read_began is None else read_began - self._hold

    def ready(self, read_began: int | None = None) -> list[bytes]:
        """Events that can leave, in order; *read_began* is the monotonic time in ns at which the last read of the
        buffers began, None lets everything go."""
        held = self._held
        if not held:
            return []
        held.sort(key=_timestamp)
        limit = self.limit(read_began)
        if limit is None:
            out = held[:]
        else:
            cut = len(held)
            while cut and _timestamp(held[cut - 1])[0] > limit:
                cut -= 1
            out = held[:cut]
        if out:
            del held[: len(out)]
            if _timestamp(out[0])[0] < self._last:
                self.late += 1
            self._last = max(self._last, _timestamp(out[-1])[0])
        return out


def now() -> int:
    """CLOCK_MONOTONIC in ns, as bpf_ktime_get_ns() has it."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
