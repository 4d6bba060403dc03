"""A collection in the test's own process: many runs without starting Python and loading BCC for each."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from retis_py.events.writer import encode
from retis_py.kernel.collection import Collection, Options
from tests.support.events import Event
from tests.support.namespaces import PATIENCE, Link

__all__ = ["Wire", "collected"]

ETH_P_ALL = 3  # include/uapi/linux/if_ether.h
PACKET_OUTGOING = 4  # include/uapi/linux/if_packet.h


def collected(traffic: Callable[[], None], **options: Any) -> list[Event]:
    """The events of *traffic*, which returns when its last packet has passed the probes."""
    collection = Collection(Options(**options))
    collection.prepare()
    try:
        collection.attach()
        collection.begin()
        traffic()
        collection.stopped = lambda: True
        return [json.loads(encode(event)) for batch in collection.events() for event in batch]
    finally:
        collection.close()


class Wire:
    """Puts frames on the wire of a *link* at its end a; they have been received at b when `send` returns."""

    def __init__(self, link: Link) -> None:
        self._link = link
        with link.a:
            self._out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._out.bind((link.a_device, 0))
        with link.b:
            self._in = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._in.bind((link.b_device, ETH_P_ALL))
        self._in.settimeout(PATIENCE)

    def send(self, frames: list[bytes]) -> None:
        for frame in frames:
            self._out.send(frame)
        waiting = len(frames)
        while waiting:
            _, address = self._in.recvfrom(1 << 16)
            # taps come after tracepoint net:netif_receive_skb (net/core/dev.c, __netif_receive_skb_core())
            waiting -= address[2] != PACKET_OUTGOING

    def close(self) -> None:
        self._out.close()
        self._in.close()
