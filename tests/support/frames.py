"""Frames of every protocol that packet text knows, sound and broken, from a seeded random generator."""

from __future__ import annotations

import random
import struct

__all__ = ["frame", "frames"]

_ETHERTYPES = (
    0x0800,
    0x0806,
    0x6558,
    0x8035,
    0x809B,
    0x80F3,
    0x8100,
    0x86DD,
    0x880B,
    0x8847,
    0x8848,
    0x8863,
)
_ETHERTYPES += (0x8864, 0x888E, 0x88A8, 0x88E5, 0x88F7, 0x9100, 0x88CC, 0x0005)
_PROTOCOLS = (1, 2, 4, 6, 17, 27, 33, 41, 47, 50, 51, 58, 89, 112, 115, 132, 143, 200)
_EXTENSIONS = (0, 43, 44, 60, 135, 139, 140, 253, 254)
_ADDRESSES6 = (
    b"\0" * 16,
    b"\0" * 15 + b"\1",
    b"\0" * 12 + b"\x0a\0\0\1",
    b"\0" * 10 + b"\xff\xff\x0a\0\0\1",
    bytes.fromhex("20010db8000000000001000000000001"),
    bytes.fromhex("20010db8000100010001000100010000"),
    bytes.fromhex("fe800000000000000000000000000001"),
)


class _Maker:
    """Builds frames from the inside out."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def some(self, most: int) -> bytes:
        return self.rng.randbytes(self.rng.randrange(most + 1))

    def pick(self, *choices: int) -> int:
        return self.rng.choice(choices)

    def ethernet(self, depth: int = 0) -> bytes:
        rng = self.rng
        kind = rng.choices(_ETHERTYPES, [60, 6, 1, 1, 1, 1, 6, 40, 1, 1, 1, 1, 1, 1, 4, 8, 1, 3, 2, 1])[
            0
        ]
        return rng.randbytes(12) + kind.to_bytes(2, "big") + self.network(kind, depth)

    def network(self, kind: int, depth: int) -> bytes:
        rng = self.rng
        if kind in (0x8100, 0x88A8, 0x9100):
            inner = self.pick(0x0800, 0x0800, 0x86DD, 0x8100, 0x0806, 0x8847, 0x1234)
            return struct.pack("!HH", rng.getrandbits(16), inner) + self.network(inner, depth)
        if kind == 0x0800:
            return self.ipv4(depth)
        if kind == 0x86DD:
            return self.ipv6(depth)
        if kind == 0x0806:
            tha = rng.choice([b"\0" * 6, rng.randbytes(6)])
            return (
                struct.pack("!HHBBH", 1, 0x800, 6, 4, rng.randrange(7))
                + rng.randbytes(10)
                + tha
                + rng.randbytes(4)
                + self.some(18)
            )
        if kind == 0x88E5:
            return self.macsec(depth)
        return self.some(20)

    def macsec(self, depth: int) -> bytes:
        rng = self.rng
        tci = rng.getrandbits(6)
        head = bytes([tci << 2 | rng.getrandbits(2), rng.getrandbits(8)]) + rng.randbytes(4)
        if tci & 0x08:
            head += rng.randbytes(8)
        if tci & 3:
            return head + self.some(30)
        inner = self.pick(0x0800, 0x86DD, 0x8100, 0x0806, 0x1234)
        return head + inner.to_bytes(2, "big") + self.network(inner, depth)

    def length(self, exact: int) -> int:
        """Mostly *exact*, sometimes not."""
        rng = self.rng
        wrong = rng.choice([0, rng.randrange(80), exact + rng.randrange(100), rng.getrandbits(16)])
        return exact if rng.random() < 0.85 else wrong

    def ipv4(self, depth: int) -> bytes:
        rng = self.rng
        protocol = rng.choices(_PROTOCOLS, [9, 1, 1, 30, 30, 1, 1, 1, 1, 4, 6, 2, 1, 1, 1, 12, 1, 1])[0]
        payload = self.transport(protocol, depth)
        options = b""
        if rng.random() < 0.15:
            options = bytes(
                rng.choice([0, 1, 7, 0x94, 4, 3, rng.getrandbits(8)])
                for _ in range(rng.randrange(10) * 4)
            )
        ihl = 5 + len(options) // 4 if rng.random() < 0.95 else rng.getrandbits(4)
        total = self.length(20 + len(options) + len(payload))
        return (
            struct.pack(
                "!BBHHHBBH",
                4 << 4 | ihl,
                rng.choice([0, rng.getrandbits(8)]),
                total & 0xFFFF,
                rng.getrandbits(16),
                rng.choice([0, 0x4000, rng.getrandbits(16)]),
                rng.getrandbits(8),
                protocol,
                0,
            )
            + rng.randbytes(8)
            + options
            + payload
            + rng.choice([b"", self.some(8)])
        )

    def address6(self) -> bytes:
        return self.rng.choice([*_ADDRESSES6, self.rng.randbytes(16)])

    def ipv6(self, depth: int) -> bytes:
        rng = self.rng
        protocol = rng.choices(
            (*_PROTOCOLS, 59), [2, 1, 1, 30, 30, 1, 1, 1, 1, 1, 1, 9, 1, 1, 1, 12, 1, 1, 2]
        )[0]
        payload = self.transport(protocol, depth)
        if rng.random() < 0.2:
            for _ in range(rng.randrange(1, 4)):
                size = rng.randrange(2)
                payload = bytes([protocol, size]) + rng.randbytes(6 + 8 * size) + payload
                protocol = rng.choice(_EXTENSIONS)
        word = 6 << 28 | rng.getrandbits(28)
        head = struct.pack(
            "!IHBB", word, self.length(len(payload)) & 0xFFFF, protocol, rng.getrandbits(8)
        )
        return head + self.address6() + self.address6() + payload

    def transport(self, protocol: int, depth: int) -> bytes:
        rng = self.rng
        if protocol == 6:
            return self.tcp()
        if protocol == 17:
            return self.udp(depth)
        if protocol == 132:
            return self.sctp()
        if protocol == 51:
            inner = self.pick(6, 17, 1, 50, 51, 132, 200)
            words = rng.randrange(6)
            icv = rng.randbytes(max(words - 1, 0) * 4)
            return bytes([inner, words]) + rng.randbytes(10) + icv + self.transport(inner, depth)
        return self.some(40)

    def tcp(self) -> bytes:
        rng = self.rng
        options = b""
        if rng.random() < 0.6:
            for _ in range(rng.randrange(6)):
                kind = self.pick(0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 19, 20, 28, 29, 30, 34, 254, 99)
                if kind < 2:
                    options += bytes([kind])
                    continue
                usual = {
                    2: 2,
                    3: 1,
                    4: 0,
                    5: 8 * rng.randrange(1, 4),
                    6: 4,
                    7: 4,
                    8: 8,
                    11: 4,
                    12: 4,
                    13: 4,
                }
                size = usual.get(kind, rng.randrange(9)) if rng.random() < 0.85 else rng.randrange(12)
                options += bytes([kind, size + 2 if rng.random() < 0.95 else rng.getrandbits(8)])
                options += rng.randbytes(size)
            options += b"\1" * (-len(options) % 4)
        words = 5 + len(options) // 4 if rng.random() < 0.93 else rng.getrandbits(4)
        offset = min(words, 15) << 4 | (rng.random() < 0.1 and rng.getrandbits(4))
        return (
            rng.randbytes(12)
            + bytes([offset, rng.getrandbits(8)])
            + rng.randbytes(6)
            + options
            + rng.choice([b"", self.some(40)])
        )

    def udp(self, depth: int) -> bytes:
        rng = self.rng
        port = self.pick(53, 4789, 8472, 6081, 6081, rng.getrandbits(16)) if depth < 2 else 53
        if port in (4789, 8472):
            payload = (
                bytes([rng.choice([8, 0, rng.getrandbits(8)])])
                + rng.randbytes(7)
                + self.ethernet(depth + 1)
            )
        elif port == 6081:
            payload = self.geneve(depth)
        else:
            payload = self.some(40)
        return (
            struct.pack("!HHHH", rng.getrandbits(16), port, self.length(len(payload) + 8) & 0xFFFF, 0)
            + payload
        )

    def geneve(self, depth: int) -> bytes:
        rng = self.rng
        options = b""
        for _ in range(rng.choice([0, 0, 1, 2])):
            words = rng.randrange(4)
            number = self.pick(0x100, 0x102, 0xFFFF)
            options += struct.pack("!HBB", number, self.pick(1, 0x81, 0, rng.getrandbits(8)), words)
            options += rng.randbytes(words * 4)
        words = len(options) // 4 if rng.random() < 0.9 else rng.getrandbits(6)
        kind = self.pick(0x6558, 0x6558, 0x0800, 0x86DD, 0x1234)
        head = struct.pack(
            "!BBH", words, rng.choice([0, 0x80, 0x40, rng.getrandbits(8)]), kind
        ) + rng.randbytes(4)
        inner = self.ethernet(depth + 1) if kind == 0x6558 else self.network(kind, depth + 1)
        return head + options + inner

    def sctp(self) -> bytes:
        rng = self.rng
        chunks = b""
        for _ in range(rng.randrange(4)):
            kind = rng.choice([0, 0, 1, 2, 3, *range(4, 15), 77])
            data = rng.randbytes({0: 12, 1: 16, 2: 16, 3: 12}.get(kind, 0) if rng.random() < 0.9 else 4)
            data += rng.choice([b"", self.some(12)])
            size = 4 + len(data) if rng.random() < 0.95 else rng.choice([0, 3, rng.getrandbits(8)])
            chunks += (
                struct.pack("!BBH", kind, rng.getrandbits(8), size) + data + b"\0" * (-len(data) % 4)
            )
        return rng.randbytes(12) + chunks


def frame(rng: random.Random) -> bytes:
    """One frame: mostly sound, sometimes cut short, sometimes with bytes changed, at most 255 bytes."""
    data = bytearray(_Maker(rng).ethernet())
    luck = rng.random()
    if luck < 0.15:
        del data[rng.randrange(len(data) + 1) :]
    elif luck < 0.3:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.getrandbits(8)
    return bytes(data[:255])


def frames(seed: int, count: int) -> list[bytes]:
    """*count* frames, the same for the same *seed*."""
    rng = random.Random(seed)
    return [frame(rng) for _ in range(count)]
