"""Ethernet, VLAN, ARP and MACsec."""

from __future__ import annotations

from struct import Struct

from retis_py.events.packet.ip import inet_ntoa, ipv4, ipv6
from retis_py.events.packet.names import ETHERTYPES, TRUNCATED, ethertype_text, unsupported

__all__ = ["ethernet", "network"]

#: frames within frames: enough for any network, and far from Python's recursion limit
MAX_DEPTH = 48

_VLAN = frozenset((0x8100, 0x88A8, 0x9100))
_ARP = Struct("!HHBBH6s4s6s4s").unpack_from


def _mac(data: bytes) -> str:
    return data.hex(":")


def ethernet(data: bytes, pos: int, end: int, e: bool, depth: int) -> str:
    """A frame; *depth* counts the frames around it."""
    if end - pos < 14 or depth > MAX_DEPTH:
        return TRUNCATED
    ethertype = data[pos + 12] << 8 | data[pos + 13]
    if not e:
        if ethertype == 0x0800:
            return ipv4(data, pos + 14, end, False, depth)
        if ethertype not in ETHERTYPES:
            return unsupported(f"ethertype 0x{ethertype:04x}")
        return network(data, pos + 14, end, ethertype, False, depth)
    if ethertype not in ETHERTYPES:
        return unsupported(f"ethertype 0x{ethertype:04x}")
    addresses = f"{_mac(data[pos + 6 : pos + 12])} > {_mac(data[pos : pos + 6])}"
    return f"{addresses} {ethertype_text(ethertype)}{network(data, pos + 14, end, ethertype, True, depth)}"


def network(data: bytes, pos: int, end: int, ethertype: int, e: bool, depth: int) -> str:
    """What follows *ethertype*: VLAN tags, then the network layer; with *e* after a space."""
    tags = ""
    while ethertype in _VLAN:
        if end - pos < 4:
            return tags + TRUNCATED
        tci = data[pos] << 8 | data[pos + 1]
        ethertype = data[pos + 2] << 8 | data[pos + 3]
        pos += 4
        if e:
            dei = " DEI" if tci & 0x1000 else ""
            tags += f" vlan {tci & 0xFFF} p {tci >> 13}{dei} {ethertype_text(ethertype)}"
    if e:
        tags += " "
    if depth > MAX_DEPTH:
        return tags + TRUNCATED
    if ethertype == 0x0800:
        return tags + ipv4(data, pos, end, e, depth)
    if ethertype == 0x86DD:
        return tags + ipv6(data, pos, end, e, depth)
    if ethertype == 0x0806:
        return tags + _arp(data, pos, end)
    if ethertype == 0x88E5:
        return tags + _macsec(data, pos, end, e, depth)
    return tags + unsupported(f"ethertype 0x{ethertype:04x}")


def _arp(data: bytes, pos: int, end: int) -> str:
    if end - pos < 28:
        return TRUNCATED
    # address lengths are taken for those of Ethernet and IPv4
    _, _, _, _, operation, sha, spa, tha, tpa = _ARP(data, pos)
    if operation == 1:
        known = f" ({_mac(tha)})" if any(tha) else ""
        return f"request who-has {inet_ntoa(tpa)}{known} tell {inet_ntoa(spa)}"
    if operation == 2:
        return f"reply {inet_ntoa(spa)} is-at {_mac(sha)}"
    if operation == 3:
        return f"reverse request who-is {_mac(tha)} tell {_mac(sha)}"
    if operation == 4:
        return f"reverse reply {_mac(tha)} at {inet_ntoa(tpa)}"
    return unsupported(f"ARP operation {operation}")


#: bits of the tag control information, in the order they print
_TCI = ((0x02, "E"), (0x01, "C"), (0x10, "S"), (0x04, "B"), (0x08, "I"))


def _macsec(data: bytes, pos: int, end: int, e: bool, depth: int) -> str:
    if end - pos < 6:
        return TRUNCATED
    tci, association = data[pos] >> 2, data[pos] & 3
    short_length = data[pos + 1] & 0x3F
    number = int.from_bytes(data[pos + 2 : pos + 6], "big")
    pos += 6
    sci = b""
    if tci & 0x08:
        sci = data[pos : min(pos + 8, end)]
        pos += 8
    text = ""
    if e:
        flags = "".join(name for bit, name in _TCI if tci & bit)
        text = f"an {association} pn {number} flags [{flags}]"
        if short_length:
            text += f" sl {short_length}"
        if tci & 0x08:
            if pos > end:
                return text + TRUNCATED
            text += f" sci 0x{sci.hex()}"
    if tci & 0x03:
        # encrypted, or changed: what follows is no ethertype
        return text or "802.1AE MACsec frame"
    if end - pos < 2:
        return text + TRUNCATED
    ethertype = data[pos] << 8 | data[pos + 1]
    return text + network(data, pos + 2, end, ethertype, e, depth + 1)
