"""Packet text: an Ethernet frame as upstream prints it, straight from its bytes.

Best effort: what was read before a problem stays, then a marker says what could not be. No object is made per
header: each function reads from ``data[pos:end]``, where *end* is what was captured of the part, and
returns text. ``e`` means that link-layer parts are wanted (``-e``).
"""

from __future__ import annotations

from retis_py.events.packet.link import ethernet
from retis_py.events.packet.names import ethertype_text

__all__ = ["ethertype_text", "packet_text"]


def packet_text(data: bytes, link_layer: bool = False) -> str:
    """The frame *data* as one line."""
    return ethernet(data, 0, len(data), link_layer, 0)
