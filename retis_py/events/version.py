"""The version of an event file: which conversions its events need."""

from __future__ import annotations

import re

__all__ = ["LATEST", "format_level", "parse_version"]

#: level of the files we write; 0 is 1.5, 1 is 1.6
LATEST = 2

_PARTS = ("major", "minor", "patch")


def parse_version(text: str) -> tuple[int, int, int]:
    """The ``X.Y.Z`` of a ``retis_version``: a leading ``v`` and what follows ``-`` or ``+`` do not count.

    Raises ValueError with upstream's words.
    """
    plain = re.split(r"[-+]", text[1:] if text.startswith("v") else text, maxsplit=1)[0]
    if not plain:
        raise ValueError(f"Invalid Retis version string ({text})")
    numbers = []
    rest = plain
    for index, part in enumerate(_PARTS):
        digits = re.match(r"[0-9]*", rest).group()  # type: ignore[union-attr]
        what = f"{part} version number"
        if not digits:
            raise ValueError(
                f"unexpected character '{rest[0]}' while parsing {what}"
                if rest
                else f"unexpected end of input while parsing {what}"
            )
        if len(digits) > 1 and digits[0] == "0":
            raise ValueError(f"invalid leading zero in {what}")
        if int(digits) > 0xFFFF_FFFF_FFFF_FFFF:
            raise ValueError(f"value of {what} exceeds u64::MAX")
        numbers.append(int(digits))
        rest = rest[len(digits) :]
        if index < 2:
            if not rest:
                raise ValueError(f"unexpected end of input while parsing {what}")
            if rest[0] != ".":
                raise ValueError(f"unexpected character '{rest[0]}' after {what}")
            rest = rest[1:]
        elif rest:
            raise ValueError(f"unexpected character '{rest[0]}' after {what}")
    return numbers[0], numbers[1], numbers[2]


def format_level(text: str) -> int:
    """The compatibility level of files with the ``retis_version`` *text*. Raises ValueError."""
    version = parse_version(text)
    if version < (1, 5, 0):
        raise ValueError(f"Unsupported Retis version ({'.'.join(map(str, version))})")
    if version < (1, 6, 0):
        return 0
    return 1 if version < (1, 7, 0) else LATEST
