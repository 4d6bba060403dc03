"""Queue ids: how a packet is recognized on its way from the kernel to ovs-vswitchd and back. Twin of ovs_hash() in
bpf/collectors/ovs.bpf.c."""

from __future__ import annotations

import struct

__all__ = ["HASHED", "jhash", "queue_id"]

#: bytes of a packet that its queue id is made from
HASHED = 64

_MASK = 0xFFFF_FFFF


def _rol(word: int, shift: int) -> int:
    return (word << shift | word >> (32 - shift)) & _MASK


def jhash(data: bytes, initval: int = 0) -> int:
    """Bob Jenkins' hash as the kernel has it: jhash() of include/linux/jhash.h, on a little-endian machine."""
    a = b = c = (0xDEADBEEF + len(data) + initval) & _MASK
    at = 0
    while len(data) - at > 12:
        words = struct.unpack_from("<III", data, at)
        a, b, c = ((old + word) & _MASK for old, word in zip((a, b, c), words))
        a = (a - c & _MASK) ^ _rol(c, 4)
        c = c + b & _MASK
        b = (b - a & _MASK) ^ _rol(a, 6)
        a = a + c & _MASK
        c = (c - b & _MASK) ^ _rol(b, 8)
        b = b + a & _MASK
        a = (a - c & _MASK) ^ _rol(c, 16)
        c = c + b & _MASK
        b = (b - a & _MASK) ^ _rol(a, 19)
        a = a + c & _MASK
        c = (c - b & _MASK) ^ _rol(b, 4)
        b = b + a & _MASK
        at += 12
    if at == len(data):
        return c
    words = struct.unpack("<III", data[at:].ljust(12, b"\0"))
    a, b, c = ((old + word) & _MASK for old, word in zip((a, b, c), words))
    c = (c ^ b) - _rol(b, 14) & _MASK
    a = (a ^ c) - _rol(c, 11) & _MASK
    b = (b ^ a) - _rol(a, 25) & _MASK
    c = (c ^ b) - _rol(b, 16) & _MASK
    a = (a ^ c) - _rol(c, 4) & _MASK
    b = (b ^ a) - _rol(a, 14) & _MASK
    return (c ^ b) - _rol(b, 24) & _MASK


def queue_id(packet: bytes) -> int:
    """The queue id of a packet, from its first byte on."""
    return jhash(packet[:HASHED].ljust(HASHED, b"\0"))
