"""VXLAN and Geneve: frames within UDP."""

from __future__ import annotations

from retis_py.events.packet.names import TRUNCATED, ethertype_text

__all__ = ["geneve", "vxlan"]

_TEB = 0x6558


def vxlan(data: bytes, pos: int, end: int, e: bool, depth: int) -> str:
    """RFC 7348. ``I`` says that the network identifier is valid."""
    from retis_py.events.packet.link import ethernet  # link -> ip -> transport -> tunnel -> link

    if end - pos < 8:
        return TRUNCATED
    valid = "I" if data[pos] & 0x08 else ""
    vni = int.from_bytes(data[pos + 4 : pos + 7], "big")
    return f" vxlan [{valid}] vni {vni:#x} {ethernet(data, pos + 8, end, e, depth + 1)}"


def geneve(data: bytes, pos: int, end: int, e: bool, depth: int) -> str:
    """RFC 8926. ``O`` is a control packet, ``C`` says that an option is critical."""
    from retis_py.events.packet.link import ethernet, network

    if end - pos < 8:
        return TRUNCATED
    size = (data[pos] & 0x3F) * 4
    flags = ("O" if data[pos + 1] & 0x80 else "") + ("C" if data[pos + 1] & 0x40 else "")
    protocol = data[pos + 2] << 8 | data[pos + 3]
    vni = int.from_bytes(data[pos + 4 : pos + 7], "big")
    pos += 8
    text = f" geneve [{flags}] vni {vni:#x}"
    if e:
        text += f" {ethertype_text(protocol, 'proto')}"
    if size:
        text += f" [{_options(data[pos : min(pos + size, end)])}]"
    pos = min(pos + size, end)
    if protocol == _TEB:
        return f"{text} {ethernet(data, pos, end, e, depth + 1)}"
    return f"{text} {network(data, pos, end, protocol, e, depth + 1)}"


def _options(region: bytes) -> str:
    texts = []
    pos = 0
    while len(region) - pos >= 4:
        kind = region[pos + 2]
        number = region[pos] << 8 | region[pos + 1]
        size = (region[pos + 3] & 0x1F) * 4
        critical = "(C)" if kind & 0x80 else ""
        text = f"class {number:#x} type {kind:#x}{critical} len {size}"
        value = region[pos + 4 : pos + 4 + size]
        if number == 0x100 and kind == 0x01 and len(value) >= 4:
            version = "v6" if value[0] & 4 else "v4"
            text += f" (proto {value[0] & 3} {version} nh {value[1]} tp {value[2]} hlen {value[3]})"
        texts.append(text)
        pos += 4 + size
    return ",".join(texts)
