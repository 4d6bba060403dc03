"""Sorter: puts events together into series, and decides which series goes when.

What is held is bounded by the number of events, and by the bytes they had in the file: lines may be of megabytes.
"""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import repeat
from typing import Any

import msgspec

from retis_py.collectors.ovs import OvsDetraceSection, OvsFlowLookup
from retis_py.process.series import REMEMBERED, Tracker

__all__ = ["MAX_BUFFER", "LargeSeries", "Sorter", "timestamp_of"]

#: events held by default
MAX_BUFFER = 1000
#: larger events are counted in bytes, too: a packet with all its sections has 2 KB
_LARGE = 4 << 10
#: still larger ones count this much: short strings take some ten times their JSON when they are decoded, and no
#: collection has so many of them in an event
_HUGE, _DECODED = 64 << 10, 8
#: bytes of large events held at most for each event of the buffer, and at most at least
_EVENT_BYTES, _LEAST_BYTES = 16 << 10, 16 << 20
#: flows of Open vSwitch about which something is remembered, and the bytes this may take
_FLOWS, _FLOW_BYTES = 1 << 16, 16 << 20


def timestamp_of(event: Any) -> int:
    """The time of an event; 0 without a common section."""
    common = event.common
    return 0 if common is None else common.timestamp


class LargeSeries(list[Any]):
    """A series with large events: better not held any longer."""


class _Flows:
    """What is known about flows, the latest of each; those told of longest ago are forgotten first."""

    def __init__(self, bounded: bool) -> None:
        self._limits = (_FLOWS, _FLOW_BYTES) if bounded else (sys.maxsize, sys.maxsize)
        self._known: dict[Any, tuple[OvsDetraceSection, int]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def add(self, detrace: OvsDetraceSection, size: int) -> None:
        """Remember *detrace*, of an event of *size* bytes."""
        key = (detrace.ufid, detrace.flow, detrace.sf_acts)
        _, before = self._known.pop(key, (None, 0))
        self._known[key] = detrace, size
        self._bytes += size - before
        flows, bytes_ = self._limits
        while len(self._known) > flows or self._bytes > bytes_:
            _, gone = self._known.pop(next(iter(self._known)))
            self._bytes -= gone

    def enrich(self, event: Any) -> None:
        """Add to a flow look-up what is known of the flow by now."""
        lookup = event.ovs
        if not isinstance(lookup, OvsFlowLookup):
            return
        detrace, _ = self._known.get((lookup.ufid, lookup.flow, lookup.sf_acts), (None, 0))
        if detrace is not None:
            event.ovs = msgspec.structs.replace(lookup, dpflow=detrace.dpflow, ofpflows=detrace.ofpflows)


class Sorter:
    """Holds events back until *max_buffer* of them are there, then lets the oldest series go; 0: all.

    Series with very large events leave earlier, see `_LEAST_BYTES`.
    """

    def __init__(self, max_buffer: int = MAX_BUFFER) -> None:
        self._limit = max_buffer or sys.maxsize
        self._size_limit = max(max_buffer * _EVENT_BYTES, _LEAST_BYTES) if max_buffer else sys.maxsize
        self._tracker = Tracker(REMEMBERED if max_buffer else 0)
        self._series: dict[int, list[Any]] = {}
        #: keys of `_series`, as a heap
        self._keys: list[int] = []
        self._untracked: deque[Any] = deque()
        #: the startup event a file begins with: to be read again, the sorted file must begin with it too, also
        #: where packets were seen before it (a set of split files, read from the middle)
        self._startup: Any = None
        self._held = 0
        #: bytes of the large events held, by their identity
        self._large: dict[int, int] = {}
        self._size = 0
        self._flows = _Flows(bool(max_buffer))

    def add(self, events: Iterable[Any], sizes: Iterable[int] = repeat(0)) -> Iterator[list[Any]]:
        """Take *events*, which had *sizes* in the file; gives the series that had to go to make room.

        Raises ForeignTracking for an event that cannot be taken; those before it are.
        """
        track, series, keys = self._tracker.track, self._series, self._keys
        limit, size_limit = self._limit, self._size_limit
        for event, size in zip(events, sizes):
            if self._startup is None:
                self._startup = event
            packet = track(event)
            if packet is not None:
                key = packet.key
            elif event.tracking is not None:
                key = event.tracking.skb.tracking_id()
            else:
                key = -1
                self._untracked.append(event)
                if event.ovs_detrace is not None:
                    self._flows.add(event.ovs_detrace, size)
            if key >= 0:
                if key in series:
                    series[key].append(event)
                else:
                    series[key] = [event]
                    heappush(keys, key)
            self._held += 1
            if size > _LARGE:
                if size > _HUGE:
                    size *= _DECODED
                self._large[id(event)] = size
                self._size += size
            while self._held >= limit or self._size > size_limit:
                yield self._pop()

    def flush(self) -> Iterator[list[Any]]:
        """The series still held."""
        while self._held:
            yield self._pop()

    def _pop(self) -> list[Any]:
        first = self._untracked[0] if self._untracked else None
        if first is not None and (
            not self._keys or first is self._startup or self._keys[0] >> 64 >= timestamp_of(first)
        ):
            events = [self._untracked.popleft()]
        else:
            events = self._series.pop(heappop(self._keys))
            if len(self._flows):
                for event in events:
                    self._flows.enrich(event)
        self._held -= len(events)
        if self._large:
            size = sum(self._large.pop(id(event), 0) for event in events)
            self._size -= size
            if size:
                return LargeSeries(events)
        return events
