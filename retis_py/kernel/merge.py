"""Puts the events of all CPUs in order of time.

Of what began before the buffers were last read, all has arrived but the hits that were under way then, which the
programs tell (struct cpu of bpf/core.h): nothing that is still missing is older than those.
"""

from __future__ import annotations

import struct
import time

__all__ = ["TimeOrder", "now", "timestamp_of"]

_timestamp = struct.Struct("=Q").unpack_from


def timestamp_of(raw: bytes) -> int:
    """When the hit of a raw event was, in ns: struct header_raw begins with it."""
    return int(_timestamp(raw)[0])


class TimeOrder:
    """Holds raw events back until no earlier one can come. *hold*, in ns, is for the few that tell a time before that
    of their hit (Open vSwitch's, of a packet that was queued)."""

    def __init__(self, hold: int = 20_000_000) -> None:
        self.add = self._new().append
        self._hold = hold
        self._limit = self._last = 0
        #: events that came after a later one had left
        self.late = 0

    def _new(self) -> list[bytes]:
        self._held: list[bytes] = []
        return self._held

    def limit(self, read_began: int, under_way: int | None = None) -> int:
        """Up to which time in ns all events have arrived. *read_began* is the monotonic time at which the last read of
        the buffers began, *under_way* when the oldest hit began that was under way after that, if there was one."""
        limit = read_began - self._hold
        if under_way is not None:
            limit = min(limit, under_way - 1)
        self._limit = max(self._limit, limit)
        return self._limit

    def ready(self, limit: int | None = None) -> list[bytes]:
        """Events up to *limit*, in order; None lets everything go."""
        held = self._held
        if not held:
            return []
        held.sort(key=_timestamp)
        if limit is None:
            out = held[:]
        else:
            cut = len(held)
            while cut and _timestamp(held[cut - 1])[0] > limit:
                cut -= 1
            out = held[:cut]
        if out:
            del held[: len(out)]
            for raw in out:
                if _timestamp(raw)[0] >= self._last:
                    break
                self.late += 1
            self._last = max(self._last, _timestamp(out[-1])[0])
        return out


def now() -> int:
    """CLOCK_MONOTONIC in ns, as bpf_ktime_get_ns() has it."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
