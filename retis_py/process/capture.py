"""Writing PCAP-NG through python-pcapng: the blocks of our files, and their order."""

import struct
from collections.abc import Callable
from typing import Any, BinaryIO, Optional, Union

from pcapng import FileWriter
from pcapng.blocks import EnhancedPacket, InterfaceDescription, SectionHeader, SectionMemberBlock
from pcapng.structs import RawBytes

from retis_py.process.schema import compact

__all__ = ["MAX_JSON", "PEN", "CaptureWriter", "PackedPacket", "Probe", "SchemaBlock"]

#: type and symbol of a probe
Probe = tuple[str, str]

#: IANA private enterprise number of the custom block and option, as upstream's
PEN = 70000
#: length fields of options have 16 bits; comments beyond this are cut (a multiple of 4: no padding)
_MAX_OPTION = 0xFFFC
#: longest JSON text a custom option can have: the enterprise number comes first
MAX_JSON = _MAX_OPTION - 4
_CUT = b"... (too long for PCAP-NG)"

_HEADER = struct.Struct("<IIIIIII")
_OPTION = struct.Struct("<HH").pack
_CUSTOM = struct.Struct("<HHI").pack
_LENGTH = struct.Struct("<I").pack
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_END = _OPTION(0, 0)


class SchemaBlock(SectionMemberBlock):
    """Custom Block (copiable) with the JSON schema: python-pcapng has no custom blocks of its own."""

    __slots__ = ()
    magic_number = 0x00000BAD
    schema = [("data", RawBytes(0), b"")]

    def _encode(self, outstream: BinaryIO) -> None:
        outstream.write(_LENGTH(PEN) + self.data)


class PackedPacket(EnhancedPacket):
    """An Enhanced Packet Block that packs itself.

    The general encoder of python-pcapng walks a schema and writes field by field: 45,000 blocks a second, a
    fifth of what reading the events allows. The layout of ours is always the same, so it is spelt out here;
    tests compare it with the general encoder's.
    """

    __slots__ = ("packed",)

    def __init__(self, section: SectionHeader, interface_id: int, packed: Union[bytes, memoryview]) -> None:
        self.section = section
        self._decoded = {"interface_id": interface_id}
        self.packed = packed

    def _write(self, outstream: BinaryIO) -> None:
        outstream.write(self.packed)

    @staticmethod
    def pack(interface: int, time: int, data: bytes, length: int, comment: bytes, custom: bytes) -> bytes:
        """The bytes of the block: *time* in ns, *length* of the packet on the wire, *custom* the JSON."""
        if len(comment) > _MAX_OPTION:
            comment = _cut(comment)
        captured, spare = len(data), -len(data) & 3
        text, custom_length = len(comment), len(custom)
        size = 48 + captured + spare + text + (-text & 3) + custom_length + (-custom_length & 3)
        parts = (
            _HEADER.pack(6, size, interface, time >> 32 & 0xFFFF_FFFF, time & 0xFFFF_FFFF, captured, length),
            data,
            _PADDING[captured & 3],
            _OPTION(1, text),
            comment,
            _PADDING[text & 3],
            _CUSTOM(2988, custom_length + 4, PEN),
            custom,
            _PADDING[custom_length & 3],
            _END,
            _LENGTH(size),
        )
        return b"".join(parts)


def _cut(text: bytes) -> bytes:
    """*text* within the limits of an option, not in the middle of a character."""
    return text[: _MAX_OPTION - len(_CUT)].decode(errors="ignore").encode() + _CUT


class CaptureWriter:
    """Writes PCAP-NG to the file *opener* gives, which is called when there is something to write."""

    def __init__(self, opener: Callable[[], BinaryIO]) -> None:
        self._opener = opener
        self._stream: Optional[BinaryIO] = None
        self._section: Any = None
        self._writer: Any = None
        #: probes -> number of their interface
        self.interfaces: dict[Probe, int] = {}

    def interface(self, probe: Probe) -> int:
        """The interface of *probe*, described in the file when first asked for."""
        number = self.interfaces.get(probe)
        if number is None:
            if self._stream is None:
                self._section = SectionHeader(endianness="<")
                self._stream = self._opener()
                self._writer = FileWriter(self._stream, self._section)
                self._writer.write_block(self._section.new_member(SchemaBlock, data=compact()))
            name = "/".join(probe)
            options = {
                "if_name": _short(name),
                "if_description": _short(f"Fake interface for probe {name}"),
                "if_tsresol": b"\x09",
            }
            block = self._section.new_member(
                InterfaceDescription, link_type=1, snaplen=0xFFFF, options=options
            )
            self._writer.write_block(block)
            number = self.interfaces[probe] = block.interface_id
            if number:
                # blocks of packets are written as of the first: python-pcapng needs no other again, 3 KB each
                del self._section.interfaces[number]
        return number

    def packets(self, packed: Union[bytes, memoryview]) -> None:
        """Write packed packets, whose interfaces are in the file already."""
        if packed:
            self._writer.write_block(PackedPacket(self._section, 0, packed))

    def close(self) -> None:
        """Hand everything to the system. What it does not take is given up.

        Else the stream would try again when it is collected, and Python 3.13 tells of that on stderr.
        """
        if self._stream is not None:
            try:
                self._stream.flush()
            finally:
                getattr(self._stream, "raw", self._stream).close()


def _short(name: str) -> str:
    return name.encode()[:4096].decode(errors="ignore")
