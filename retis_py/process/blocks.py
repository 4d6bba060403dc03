"""Decoding the lines of event files a block at a time.

`EventReader` gives one checked event after the other and knows how to name what is wrong with a line.
Commands that look at a few sections only are faster if all lines of a block are decoded in one go; at the first
problem the block is handed back to the reader, which finds it again and says what it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any

import msgspec

from retis_py.events.file import Reader, is_utf8
from retis_py.events.source import Block
from retis_py.events.version import LATEST

__all__ = ["BlockDecoder", "decode_lines"]


def decode_lines(decode: Callable[[bytes], Any], data: bytes) -> list[Any]:
    """What *decode* makes of each line of *data*.

    msgspec's own decode_lines is no faster with the check it needs: it skips empty lines, and does not mind two values
    on one line or one on two.
    """
    return list(map(decode, BytesIO(data)))


class BlockDecoder:
    """Decodes all lines of a block at once, to the events or series of *reader*."""

    def __init__(self, reader: Reader[Any]) -> None:
        self._reader = reader
        line = list[reader.event_type] if reader.is_sorted else reader.event_type  # type: ignore[name-defined]
        self._decode = msgspec.json.Decoder(line).decode

    def items(self, block: Block) -> Iterable[Any]:
        """What the lines of *block* hold. Raises EventFileError at the first bad line, not before.

        Not checked is what types of events cannot say: numbers beyond 64 bits.
        """
        if self._reader.level == LATEST and is_utf8(block.data):
            try:
                return decode_lines(self._decode, block.data)
            except (msgspec.DecodeError, RecursionError):
                pass
        return self.checked(block)

    def lines(self, block: Block) -> Iterable[Any]:
        """The events of *block*, checked."""
        if self._reader.level == LATEST and is_utf8(block.data):
            try:
                events = decode_lines(self._decode, block.data)
                deque(map(self._reader.validate, events), maxlen=0)
                return events
            except (msgspec.DecodeError, ValueError, RecursionError):
                pass
        return self.checked(block)

    def checked(self, block: Block) -> Iterator[Any]:
        """One by one, as the reader does it."""
        return self._reader.read(block)
