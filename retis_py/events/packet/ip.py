"""IPv4 and IPv6."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from retis_py.events.packet.names import PROTOCOLS, TRUNCATED, protocol_text
from retis_py.events.packet.transport import transport

try:
    # what `socket` has them from: it takes 7 ms to import, mostly for names of numbers
    from _socket import AF_INET6, inet_ntoa, inet_ntop
except ImportError:
    from socket import AF_INET6, inet_ntoa, inet_ntop

__all__ = ["inet_ntoa", "ipv4", "ipv6", "ipv6_address"]

_IPV4 = Struct("!BBHHHBBH4s4s").unpack_from
_IPV6 = Struct("!IHBB16s16s").unpack_from
_PORTS = Struct("!HH").unpack_from

_ECN = ("", " ECT(1)", " ECT(0)", " CE")
#: fragment flags: upstream's labels of the reserved bit (highest) and of MF (lowest) are swapped
_FLAGS = ("", " [rsvd]", " [DF]", " [DF,rsvd]", " [+]", " [+,rsvd]", " [+,DF]", " [+,DF,rsvd]")
#: protocols whose ports are shown with the addresses -> bytes of header needed
_PORT_HEADERS = {6: 20, 17: 8, 132: 12}
_PROTOCOL_TEXTS = {number: protocol_text(number) for number in PROTOCOLS}

_EXTENSIONS = {
    0: "Hopopt",
    43: "Ipv6Route",
    44: "Ipv6Frag",
    50: "Esp",
    51: "Ah",
    60: "Ipv6Opts",
    135: "MobilityHeader",
    139: "Hip",
    140: "Shim6",
    253: "Test1",
    254: "Test2",
}
_NO_NEXT_HEADER = 59


def ipv4(data: bytes, pos: int, end: int, e: bool, depth: int) -> str:
    """An IPv4 packet. Its total length ends it, so that Ethernet padding is ignored."""
    if end - pos < 20:
        return TRUNCATED
    first, tos, total, ident, offset, ttl, protocol, _, src, dst = _IPV4(data, pos)
    header = (first & 0xF) * 4
    options = ""
    start = pos + 20
    if header > 20:
        options = _ipv4_options(data[start : min(pos + header, end)])
        start = pos + header
    length = total - header
    stop = min(end, start + length) if length > 0 else start
    needed = _PORT_HEADERS.get(protocol)
    if needed is not None and stop - start >= needed:
        sport, dport = _PORTS(data, start)
        ends = f"{inet_ntoa(src)}.{sport} > {inet_ntoa(dst)}.{dport}"
    else:
        ends = f"{inet_ntoa(src)} > {inet_ntoa(dst)}"
    total_text = f" len {total}" if total else ""
    proto = _PROTOCOL_TEXTS.get(protocol) or protocol_text(protocol)
    return (
        f"{ends} tos {tos >> 2:#x}{_ECN[tos & 3]} ttl {ttl} id {ident} off {(offset & 0x1FFF) * 8}"
        f"{_FLAGS[offset >> 13]}{total_text}{options} {proto}"
        f"{transport(data, protocol, start, stop, length, e, depth)}"
    )


def _ipv4_options(data: bytes) -> str:
    names: list[str] = []
    pos = 0
    while pos < len(data):
        number = data[pos] & 0x1F
        if number == 0 and not names:
            break
        names.append(f"Ipv4OptionNumber({number})")
        if number == 0:
            break
        pos += 1 if number == 1 else max(data[pos + 1], 2) if pos + 1 < len(data) else 2
    return f" opts [{','.join(names)}]" if names else ""


@lru_cache(maxsize=4096)
def ipv6_address(address: bytes) -> str:
    """The 16 bytes of an address as text."""
    text = inet_ntop(AF_INET6, address)
    if "." in text and not text.startswith("::ffff:"):
        # the C library also prints deprecated IPv4-compatible addresses with dots
        return f"::{address[12] << 8 | address[13]:x}:{address[14] << 8 | address[15]:x}"
    return text


def ipv6(data: bytes, pos: int, end: int, e: bool, depth: int) -> str:
    """An IPv6 packet."""
    if end - pos < 40:
        return TRUNCATED
    word, total, protocol, ttl, src, dst = _IPV6(data, pos)
    start = pos + 40
    stop = min(end, start + total)
    needed = _PORT_HEADERS.get(protocol)
    if needed is not None and stop - start >= needed:
        sport, dport = _PORTS(data, start)
        text = f"{ipv6_address(src)}.{sport} > {ipv6_address(dst)}.{dport}"
    else:
        text = f"{ipv6_address(src)} > {ipv6_address(dst)}"
    text += f"{_ECN[word >> 20 & 3]} ttl {ttl} label {word & 0xFFFFF:#x}"
    if total:
        text += f" len {total}"
    if protocol == _NO_NEXT_HEADER:
        return text
    if protocol in _EXTENSIONS:
        begin = start
        names = []
        while protocol in _EXTENSIONS and stop - start >= 2:
            names.append(_EXTENSIONS[protocol])
            protocol = data[start]
            # upstream takes ESP and AH for headers of the same form
            start += (data[start + 1] + 1) * 8
        if names:
            text += f" exts [{','.join(names)}]"
        if start > stop:
            return text + TRUNCATED  # upstream panics
        total -= start - begin
    proto = _PROTOCOL_TEXTS.get(protocol) or protocol_text(protocol)
    return f"{text} {proto}{transport(data, protocol, start, stop, total, e, depth)}"
