"""SCTP."""

from __future__ import annotations

from struct import Struct

from retis_py.events.packet.names import TRUNCATED

__all__ = ["sctp"]

_DATA = Struct("!IHHI").unpack_from
_INIT = Struct("!IIHHI").unpack_from
_SACK = Struct("!IIHH").unpack_from

_NAMES = {
    4: "HEARTBEAT",
    5: "HEARTBEAT_ACK",
    6: "ABORT",
    7: "SHUTDOWN",
    8: "SHUTDOWN_ACK",
    9: "ERROR",
    10: "COOKIE_ECHO",
    11: "COOKIE_ACK",
    12: "ECNE",
    13: "CWR",
    14: "SHUTDOWN_COMPLETE",
}


def sctp(data: bytes, pos: int, end: int, length: int) -> str:
    """An SCTP packet of *length* bytes by the IP header: its chunks must account for all of them."""
    if end - pos < 12:
        return TRUNCATED
    text = f" vtag {int.from_bytes(data[pos + 4 : pos + 8], 'big'):#x}"
    pos += 12
    left = max(length - 12, 0)
    while end - pos >= 4:
        size = data[pos + 2] << 8 | data[pos + 3]
        padded = size + 3 & ~3
        chunk = _chunk(data, pos, min(end, pos + max(padded, 4)))
        if not chunk:
            return text + TRUNCATED
        text += f" [{chunk}]"
        pos += max(padded, 4)
        left = max(left - padded, 0)
    return text + TRUNCATED if left else text


def _chunk(data: bytes, pos: int, end: int) -> str:
    """The chunk of ``data[pos:end]``, padding included; '' if it is too short."""
    kind, flags, have = data[pos], data[pos + 1], end - pos - 4
    pos += 4
    if kind == 0:
        if have < 12:
            return ""
        tsn, stream, number, protocol = _DATA(data, pos)
        names = "".join(name for bit, name in ((4, "U"), (2, "B"), (1, "E")) if flags & bit)
        names = f"({names}) " if names else ""
        return f"DATA {names}TSN {tsn} SID {stream} SSEQ {number} PPID {protocol:#x}"
    if kind in (1, 2):
        if have < 16:
            return ""
        tag, window, outbound, inbound, tsn = _INIT(data, pos)
        name = "INIT" if kind == 1 else "INIT_ACK"
        return f"{name} init_tag {tag:#x} rwnd {window} OS {outbound} MIS {inbound} init_TSN {tsn}"
    if kind == 3:
        if have < 12:
            return ""
        ack, window, gaps, duplicates = _SACK(data, pos)
        return f"SACK cum_ack {ack} a_rwnd {window} #gap_acks {gaps} #dup_tsns {duplicates}"
    return _NAMES.get(kind) or f"UNKNOWN:{kind}"
