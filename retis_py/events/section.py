"""Section: one part of an event, and Style: how text is wanted.

A section is a frozen msgspec structure whose field names and order are those of upstream's event file, so
JSON in, JSON out and the schema come with it; only `Section.text` is written by hand.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import msgspec

__all__ = ["I32", "I64", "INTEGER_NAMES", "PLAIN", "U8", "U16", "U32", "U64", "Section", "Style"]

U8 = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]
U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
U64 = Annotated[int, msgspec.Meta(ge=0)]  # msgspec bounds are i64: the upper one is checked by the reader
I32 = Annotated[int, msgspec.Meta(ge=-0x8000_0000, le=0x7FFF_FFFF)]
I64 = Annotated[int, msgspec.Meta(ge=-0x8000_0000_0000_0000, le=0x7FFF_FFFF_FFFF_FFFF)]

#: names of these types, as JSON schemas and Arrow have them, by bounds
INTEGER_NAMES: dict[tuple[int | None, int | None], str] = {
    (0, 0xFF): "uint8",
    (0, 0xFFFF): "uint16",
    (0, 0xFFFF_FFFF): "uint32",
    (0, None): "uint64",
    (-0x8000_0000, 0x7FFF_FFFF): "int32",
    (-0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF): "int64",
}


class Style(NamedTuple):
    """How event text is wanted; never consulted by decoders."""

    multi_line: bool = True
    #: ``-e``: print the link-layer part of packets and offloaded VLAN tags
    link_layer: bool = False
    #: ``--utc``: print dates instead of monotonic nanoseconds
    utc: bool = False
    #: ``--nft-rules``: print the text of nftables rules
    nft_rules: bool = False


PLAIN = Style()


class Section(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One part of an event. Field order is file order; optional fields default to None, then omitted."""

    #: key in the event file, kebab-case
    key: ClassVar[str] = ""

    def text(self, style: Style) -> str:
        """This section as upstream prints it, without indentation; '' prints nothing."""
        raise NotImplementedError
