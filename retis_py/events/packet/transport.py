"""TCP, UDP, ICMP, ESP and AH; what is on top of UDP and SCTP have modules of their own."""

from __future__ import annotations

from struct import Struct

from retis_py.events.packet.names import TRUNCATED, protocol_text, unsupported
from retis_py.events.packet.sctp import sctp
from retis_py.events.packet.tunnel import geneve, vxlan

__all__ = ["transport"]

_TCP = Struct("!IIBBH").unpack_from
_UDP = Struct("!HHH").unpack_from
_U32X2 = Struct("!II").unpack_from

_VXLAN_PORTS = frozenset((4789, 8472))
_GENEVE_PORT = 6081


def _tcp_flags(bits: int) -> str:
    return "".join(name for index, name in enumerate("FSRP.UEW") if bits >> index & 1)


_TCP_FLAGS = tuple(map(_tcp_flags, range(256)))


def transport(data: bytes, protocol: int, pos: int, end: int, length: int, e: bool, depth: int) -> str:
    """The payload of an IP packet, of *length* bytes by its header."""
    if protocol == 6:
        return _tcp(data, pos, end, length)
    if protocol == 17:
        return _udp(data, pos, end, e, depth)
    if protocol == 1 or protocol == 58:
        if end - pos < 4:
            return TRUNCATED
        return f" type {data[pos]} code {data[pos + 1]}"
    if protocol == 132:
        return sctp(data, pos, end, length)
    if protocol == 50:
        if end - pos < 8:
            return TRUNCATED
        spi, sequence = _U32X2(data, pos)
        return f" spi 0x{spi:08x} seq {sequence:#x}"
    if protocol == 51:
        return _ah(data, pos, end, length, e, depth)
    return unsupported(f"protocol {protocol:#x}")


def _ah(data: bytes, pos: int, end: int, length: int, e: bool, depth: int) -> str:
    text = ""
    protocol = 51
    while protocol == 51:
        if end - pos < 12:
            return text + TRUNCATED
        protocol, words = data[pos], data[pos + 1]
        spi, sequence = _U32X2(data, pos + 4)
        icv = data[pos + 12 : min(end, pos + 12 + max(words - 1, 0) * 4)]
        text += f" spi 0x{spi:08x} seq {sequence:#x} icv 0x{icv.hex()} {protocol_text(protocol)}"
        pos += 12 + max(words - 1, 0) * 4
        length -= (words + 2) * 4
    return text + transport(data, protocol, min(pos, end), end, length, e, depth)


def _udp(data: bytes, pos: int, end: int, e: bool, depth: int) -> str:
    if end - pos < 8:
        return TRUNCATED
    _, port, length = _UDP(data, pos)
    text = f" len {length - 8 if length > 8 else 0}"
    if port in _VXLAN_PORTS:
        return text + vxlan(data, pos + 8, end, e, depth)
    if port == _GENEVE_PORT:
        return text + geneve(data, pos + 8, end, e, depth)
    return text


def _tcp(data: bytes, pos: int, end: int, length: int) -> str:
    if end - pos < 20:
        return TRUNCATED
    sequence, ack, offset, bits, window = _TCP(data, pos + 4)
    header = (offset >> 4) * 4
    flags = _TCP_FLAGS[bits]
    if offset & 1:
        flags += "e"
    payload = length - header
    until = f":{sequence + payload & 0xFFFFFFFF}" if payload > 0 else ""
    acked = f" ack {ack}" if bits & 0x10 else ""
    text = f" flags [{flags}] seq {sequence}{until}{acked} win {window}"
    if header > 20:
        text += f" [{_tcp_options(data[pos + 20 : min(pos + header, end)])}]"
    return text


#: kind -> name, for options of a name and at most one number of the given bytes
_TCP_OPTIONS = {
    2: ("mss", 2),
    3: ("wscale", 1),
    4: ("sackOK", 0),
    6: ("echo", 4),
    7: ("echoreply", 4),
    11: ("cc", 4),
    12: ("ccnew", 4),
    13: ("ccecho", 4),
    19: ("md5", 0),
    20: ("scps", 0),
    28: ("uto", 0),
    29: ("tcp-ao", 0),
    30: ("mptcp", 0),
    254: ("exp", 0),
}


def _tcp_options(region: bytes) -> str:
    texts = []
    pos = 0
    while pos < len(region):
        kind = region[pos]
        if kind < 2:
            # an end of list does not end it
            texts.append("nop" if kind else "eol")
            pos += 1
            continue
        size = max(region[pos + 1], 2) if pos + 1 < len(region) else 2
        texts.append(_tcp_option(kind, region[pos + 2 : pos + size], size - 2))
        pos += size
    return ",".join(texts)


def _tcp_option(kind: int, value: bytes, size: int) -> str:
    """One option with *size* bytes of value, of which *value* were captured."""
    if kind in _TCP_OPTIONS:
        name, width = _TCP_OPTIONS[kind]
        if not width or len(value) < width:
            return name
        return f"{name} {int.from_bytes(value[:width], 'big')}"
    if kind == 8:
        if len(value) < 8:
            return "TS"
        stamp, echo = _U32X2(value)
        return f"TS val {stamp} ecr {echo}"
    if kind == 5:
        if size % 8:
            return "sack invalid"
        blocks = [_U32X2(value, at) for at in range(0, len(value) - 7, 8)]
        return f"sack {size // 8} " + "".join(f"{{{left}:{right}}}" for left, right in blocks)
    if kind == 34:
        if not size:
            return "tfo cookiereq"
        return "tfo cookie " + "".join(f"0x{byte:02x}" for byte in value) + "??" * (size - len(value))
    return "?"
