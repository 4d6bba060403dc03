"""Which events belong to the same packet: adds the ``tracking`` section to events, in file order.

Most events carry the identity of their packet (``skb-tracking``). Through Open vSwitch's upcalls a packet
leaves the kernel and comes back as another one: upcalls are followed by CPU and time, then by queue id.
"""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import msgspec

from retis_py.collectors.ovs import (
    OvsAction,
    OvsFlowLookup,
    OvsFlowOperation,
    OvsRecvUpcall,
    OvsUpcall,
    OvsUpcallEnqueue,
    OvsUpcallReturn,
)
from retis_py.errors import RetisError
from retis_py.events.core import SkbId, TrackingSection

__all__ = ["REMEMBERED", "ForeignTracking", "Packet", "Tracker"]

log = logging.getLogger(__name__)

Key = TypeVar("Key")


class ForeignTracking(RetisError):
    """An event that says it is of one packet and, in its ``tracking`` section, that it is of another."""

#: packets remembered without having been seen again, at least; at most twice as many
REMEMBERED = 1 << 16


class Packet(msgspec.Struct, gc=False):
    """A packet in the making: what its next event needs to know."""

    #: identity of the series, orders series by age
    key: int
    #: of the first event
    skb: SkbId
    #: index of its last event
    idx: int


class Recent(dict[Key, "Packet | None"]):
    """Packets by *Key*, None for unknown ones; forgets those not used while *limit* others were, all at once.

    Two dictionaries, the older of which is thrown away when the younger is full: no bookkeeping per look-up. The
    younger one is this object itself, so that what was used just before, nearly everything, is a plain look-up.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._old: dict[Key, Packet | None] = {}

    def __missing__(self, key: Key) -> Packet | None:
        packet = self._old.pop(key, None)
        if packet is not None:
            self.add(key, packet)
        return packet

    def add(self, key: Key, packet: Packet) -> None:
        """Remember *packet*."""
        self[key] = packet
        if self._limit and len(self) >= self._limit:
            self._old = dict(self)
            self.clear()

    def total(self) -> int:
        """How many packets are remembered."""
        return len(self) + len(self._old)

    def discard(self, key: Key) -> None:
        """Forget the packet of *key*."""
        self.pop(key, None)
        self._old.pop(key, None)


class Tracker:
    """Gives events their ``tracking`` section. Feed it all events of a file, in order.

    *remembered* bounds its memory: how many packets may come in between two events of one for them still to
    be numbered in one go; 0 means all. Where upstream stops at an upcall or a queue whose beginning is not in
    the file, the event stays without the section, with one warning.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._packets: Recent[int] = Recent(remembered)
        self._upcalls: Recent[tuple[int, int]] = Recent(remembered)
        self._queues: Recent[int] = Recent(remembered)
        self._lost = 0

    @property
    def lost(self) -> int:
        """Events left without a packet because its way through an upcall is not in the file."""
        return self._lost

    def track(self, event: Any) -> Packet | None:
        """Add ``tracking`` to *event*; returns its packet, None if it belongs to none."""
        ovs = event.ovs
        if ovs is not None:
            kind = type(ovs)
            if kind is not OvsFlowLookup and not (kind is OvsAction and ovs.queue_id is None):
                return self._track_ovs(event, ovs)
        return self._follow(event)

    def _follow(self, event: Any) -> Packet | None:
        """Add an event to the packet it says it is of. On the path of every event: no further calls."""
        skb = event.skb_tracking
        if skb is None:
            return None
        key = skb.timestamp << 64 | skb.orig_head
        packet = self._packets[key]
        if packet is None:
            packet = Packet(key, skb, 0)
            self._packets.add(key, packet)
        else:
            packet.idx += 1
        if event.tracking is None:
            event.tracking = TrackingSection(packet.skb, packet.idx)
        else:
            self._check(event, packet)
        return packet

    @staticmethod
    def _check(event: Any, packet: Packet) -> None:
        if event.tracking.skb.tracking_id() != packet.key:
            raise ForeignTracking("event has tracking information of another packet")

    def _track_ovs(self, event: Any, ovs: Any) -> Packet | None:
        if isinstance(ovs, (OvsUpcall, OvsUpcallReturn)):
            packet = self._follow(event)
            if isinstance(ovs, OvsUpcallReturn):
                self._upcalls.discard((ovs.upcall_cpu, ovs.upcall_ts))
            elif packet is not None and event.common is not None:
                self._upcalls.add((ovs.cpu, event.common.timestamp), packet)
            return packet
        if isinstance(ovs, OvsUpcallEnqueue):
            packet = self._upcalls[(ovs.upcall_cpu, ovs.upcall_ts)]
            if packet is None:
                self._unknown("Enqueue without an associated upcall event.")
                return None
            self._queues.add(ovs.queue_id, packet)
        else:
            assert isinstance(ovs, (OvsRecvUpcall, OvsFlowOperation, OvsAction))
            queue = ovs.queue_id
            assert queue is not None
            packet = self._queues[queue]
            if packet is None:
                self._unknown(f"Queue Id lookup failed for OVS userspace event: {queue}")
                return None
            if isinstance(ovs, OvsAction) and event.skb_tracking is not None:
                # the packet is back in the kernel: another sk_buff, but the same series
                self._packets.add(event.skb_tracking.tracking_id(), packet)
        packet.idx += 1
        if event.tracking is None:
            event.tracking = TrackingSection(packet.skb, packet.idx)
        else:
            self._check(event, packet)
        return packet

    def _unknown(self, why: str) -> None:
        if not self._lost:
            log.warning("%s The event stays on its own (so do others like it)", why if why[-1] == "." else why + ".")
        self._lost += 1
