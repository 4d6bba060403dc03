"""Names in BTF files: which files may have a type of a name, told by their strings alone.

libbpf searches a type by its name from the first one on, in a module after all of vmlinux's: a hundred modules times
thirty types would take seconds. The layout is ``struct btf_header`` of include/uapi/linux/btf.h.
"""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["MAGIC", "Names"]

MAGIC = 0xEB9F


class Names:
    """The strings of the files in a directory, read when first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._strings: dict[str, bytes | None] = {}

    def mention(self, file: str, name: str) -> bool:
        """May *file* have a type called *name*?"""
        if file not in self._strings:
            raw = (self._directory / file).read_bytes()
            magic, _, _, head, _, _, start, size = struct.unpack_from("=HBBIIIII", raw)
            # not so in an object file
            self._strings[file] = raw[head + start : head + start + size] if magic == MAGIC else None
        strings = self._strings[file]
        return strings is None or b"\0%s\0" % name.encode() in strings
