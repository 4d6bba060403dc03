"""pcap: packets of events as PCAP-NG, one interface per probe, for tcpdump, tshark and Wireshark.

Each packet carries its event: as text in its comment, and as JSON (without the packet) in a custom option.
The schema of that JSON comes in a custom block before the first interface.

Large files are packed by several processes, a block of lines at a time. What a block cannot know, how many
interfaces there are before it and which clock is in force, it assumes; where it was wrong, its packets are
corrected before they are written.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pickle import PickleBuffer
from typing import Any, BinaryIO, NamedTuple, Optional, Union

import msgspec

from retis_py.collectors import Event
from retis_py.collectors.skb import PacketSection
from retis_py.display import TextRenderer
from retis_py.errors import RetisError
from retis_py.events.core import KernelSection, StartupSection
from retis_py.events.file import EventReader, is_utf8
from retis_py.events.section import PLAIN, U32, U64
from retis_py.events.source import Block, EventSource
from retis_py.events.version import LATEST
from retis_py.process.blocks import BlockDecoder, decode_lines
from retis_py.process.capture import MAX_JSON, CaptureWriter, PackedPacket, Probe
from retis_py.process.progress import watch
from retis_py.process.rawtext import RawRenderer
from retis_py.process.team import map_blocks

__all__ = ["Packed", "Packer", "Report", "export"]

_encode = msgspec.json.Encoder().encode
_FRONT = struct.Struct("<IIIII")


class _Common(msgspec.Struct, omit_defaults=True, gc=False):
    timestamp: U64
    smp_id: Optional[U32] = None
    task: msgspec.Raw = None  # type: ignore[assignment]


#: an event as `RawRenderer` wants it, which encodes to the JSON it was decoded from
_RawEvent: Any = msgspec.defstruct(
    "_RawEvent",
    [(name, Optional[_Common] if name == "common" else msgspec.Raw, None) for name in Event.__struct_fields__],
    rename="kebab",
    omit_defaults=True,
    gc=False,
)


class Packed(NamedTuple):
    """The packets of a block of lines, with what is only known once the blocks before it are written."""

    #: bytes, or after a trip between processes the same in a bytearray
    data: Union[PickleBuffer, bytearray]
    #: interfaces *data* begins to use: (offset of their first packet, probe, number)
    new: list[tuple[int, Probe, int]]
    #: changes of the clock: (offset of the first packet, ns to add to monotonic times)
    clocks: list[tuple[int, int]]
    matched: int
    skipped: int
    error: Optional[RetisError]


def _json_option(event: Any) -> bytes:
    """The event as JSON within the limits of an option: the sections that make it too long are left out."""
    text = _encode(event)
    while len(text) > MAX_JSON:
        names = [name for name in event.__struct_fields__ if getattr(event, name) is not None]
        setattr(event, max(names, key=lambda name: len(_encode(getattr(event, name)))), None)
        text = _encode(event)
    return text


class Packer:
    """Makes packets of the events in a block, numbering interfaces in the order it meets them."""

    def __init__(self, reader: EventReader, probe: Optional[Probe] = None) -> None:
        self._reader = reader
        self._only = probe
        self._decode = msgspec.json.Decoder(_RawEvent).decode
        self._raw_text = RawRenderer(Event, PLAIN, 0).text
        self._text = TextRenderer().event
        self._probes: dict[bytes, Optional[Probe]] = {}
        self._numbers: dict[Probe, int] = {}
        #: what is assumed to be in force where a block begins
        self.clock = 0

    def learn(self, block: Block) -> None:
        """Take what the first *block* of a file says as what others may assume: it is nearly always right."""
        packed = self(block)
        if packed.clocks:
            self.clock = packed.clocks[0][1]

    def __call__(self, block: Block) -> Packed:
        data = block.data
        if self._reader.level == LATEST and is_utf8(data):
            try:
                return self._pack(map(self._raw, decode_lines(self._decode, data)), self._raw_text, None)
            except (msgspec.DecodeError, ValueError, RecursionError):
                pass  # again, one by one, for the events before the error and for its description
        errors: list[RetisError] = []
        return self._pack(self._events(block, errors), self._text, errors)

    def _raw(self, event: Any) -> tuple[Any, Optional[Probe], Any, Any]:
        """The event, its probe, packet and startup section."""
        kernel, packet, startup = event.kernel, event.packet, event.startup
        probe = None
        if kernel is not None:
            data = bytes(kernel)
            try:
                probe = self._probes[data]
            except KeyError:
                if len(self._probes) > 4096:  # stacks are part of the section
                    self._probes.clear()
                probe = self._probes[data] = _probe(_kernel(data))
        if probe is not None and self._only is not None and probe != self._only:
            return event, probe, None, None  # not wanted: nothing more to decode
        return (
            event,
            probe,
            None if packet is None else _packet(packet),
            None if startup is None else _startup(startup),
        )

    def _events(self, block: Block, errors: list[RetisError]) -> Iterator[tuple[Any, Optional[Probe], Any, Any]]:
        """As `_raw`, from decoded events."""
        try:
            for event in BlockDecoder(self._reader).items(block):
                yield event, _probe(event.kernel), event.packet, event.startup
        except RetisError as error:
            errors.append(error)

    def _pack(
        self,
        events: Iterator[tuple[Any, Optional[Probe], Any, Any]],
        text: Callable[[Any], Any],
        errors: Optional[list[RetisError]],
    ) -> Packed:
        pack, numbers, only = PackedPacket.pack, self._numbers, self._only
        out: list[bytes] = []
        new: dict[Probe, tuple[int, Probe, int]] = {}
        clocks: list[tuple[int, int]] = []
        size = matched = skipped = 0
        clock = self.clock
        error: Optional[RetisError] = None
        for event, probe, packet, startup in events:
            if probe is None:
                if startup is not None:
                    clock = startup.clock_monotonic_offset.nanoseconds()
                    clocks.append((size, clock))
                continue
            if only is not None and probe != only:
                continue
            matched += 1
            if packet is None:
                skipped += 1
                continue
            if event.common is None:
                error = RetisError("No common section in event")
                break
            if probe not in new:
                new[probe] = (size, probe, numbers.setdefault(probe, len(numbers)))
            comment = text(event).encode()
            event.packet = None
            made = pack(
                numbers[probe],
                event.common.timestamp + clock,
                packet.data,
                packet.len,
                comment,
                _json_option(event),
            )
            out.append(made)
            size += len(made)
        if error is None and errors:
            error = errors[0]
        return Packed(PickleBuffer(b"".join(out)), list(new.values()), clocks, matched, skipped, error)


_kernel = msgspec.json.Decoder(Optional[KernelSection]).decode
_packet = msgspec.json.Decoder(Optional[PacketSection]).decode
_startup = msgspec.json.Decoder(Optional[StartupSection]).decode


def _probe(kernel: Optional[KernelSection]) -> Optional[Probe]:
    return None if kernel is None else (kernel.probe_type, kernel.symbol)


class Report(NamedTuple):
    """What became of the events that *matched*: *skipped* had no packet; *error* ended the file."""

    matched: int
    skipped: int
    error: Optional[RetisError]


def _place(packed: Packed, clock: int, writer: CaptureWriter) -> None:
    """Write *packed*; *clock* is what its assumption of the clock is wrong by, in ns."""
    final = dict(writer.interfaces)
    numbers = {}
    for _, probe, number in packed.new:
        numbers[number] = final.setdefault(probe, len(final))
    view = memoryview(packed.data)
    if clock or any(number != true for number, true in numbers.items()):
        view = view if not view.readonly else memoryview(bytearray(view))
        _correct(view, numbers, clock, packed.clocks[0][0] if packed.clocks else len(view))
    start = 0
    for offset, probe, _ in packed.new:
        if probe not in writer.interfaces:
            writer.packets(view[start:offset])
            writer.interface(probe)
            start = offset
    writer.packets(view[start:])


def _correct(data: memoryview, numbers: dict[int, int], clock: int, until: int) -> None:
    """Replace interface *numbers* of packets, and add *clock* ns to the times of those before *until*."""
    start = 0
    while start < len(data):
        kind, size, interface, high, low = _FRONT.unpack_from(data, start)
        time = (high << 32 | low) + (clock if start < until else 0)
        number = numbers[interface]
        _FRONT.pack_into(data, start, kind, size, number, time >> 32 & 0xFFFF_FFFF, time & 0xFFFF_FFFF)
        start += size


def export(
    path: str,
    opener: Callable[[], BinaryIO],
    probe: Optional[Probe] = None,
    rotate: bool = False,
    stopped: Callable[[], bool] = lambda: False,
    progress: bool = False,
) -> Report:
    """Write the packets of an event file, all or those of *probe*, as PCAP-NG to what *opener* opens.

    *progress* says to show how far it is, see `watch`.
    """
    if EventSource(path).is_sorted:
        raise RetisError("Cannot read event from sorted file")
    reader = EventReader(path, Event, rotate)
    packer = Packer(reader, probe)
    writer = CaptureWriter(opener)
    matched = skipped = 0
    error: Optional[RetisError] = None
    for block in reader.source.blocks():
        packer.learn(block)
        break
    clock = packer.clock
    with watch(reader.source, stopped, progress) as watched, closing(writer):
        for packed in map_blocks(reader.source, packer, watched):
            _place(packed, clock - packer.clock, writer)
            matched += packed.matched
            skipped += packed.skipped
            if packed.clocks:
                clock = packed.clocks[-1][1]
            error = packed.error
            if error is not None:
                break
    return Report(matched, skipped, error)
