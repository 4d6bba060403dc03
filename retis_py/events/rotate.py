"""Split files: ``collect --out-rotate``, in upstream's layout.

The file being written has the bare name; when it is full it becomes ``NAME.<index>`` and a fresh one
begins with a startup event of its own. At the end the last one is renamed too.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from typing import Any

from retis_py.errors import OutputError, UsageError
from retis_py.events.core import RotationPolicy, SplitFile
from retis_py.events.writer import EventWriter

__all__ = ["RotatingWriter", "parse_limit"]

log = logging.getLogger(__name__)

_UNITS = {"M": 10**6, "G": 10**9}


def parse_limit(text: str) -> int:
    """The bytes of ``10MB`` or ``1GB``. Raises UsageError with upstream's words."""
    match = re.search(r"(\d+)(M|G)B", text)  # unanchored, as upstream's
    if match is None:
        raise UsageError(f"Invalid limit format ({text})")
    value = int(match[1])
    if not value:
        raise UsageError(f"Invalid limit value ({value})")
    return value * _UNITS[match[2]]


class RotatingWriter(EventWriter):
    """An `EventWriter` whose files hold at most *limit* bytes; with *keep*, only the last *keep* files stay.

    *startup* makes the startup event of a file, given its `SplitFile`. A line larger than the limit is still
    written whole.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        limit: int,
        startup: Callable[[SplitFile], Any],
        keep: int | None = None,
    ) -> None:
        super().__init__(path)
        self.limit = limit
        self.keep = keep
        self._startup = startup
        #: index of the file being written
        self.index = 0
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        #: the startup event included: a file of it alone is not worth closing
        self._lines_in_file = 0
        self.write(self._startup(SplitFile(self.index, RotationPolicy("size", self.limit))))

    def write_lines(self, lines: bytes) -> None:
        for line in lines.splitlines(keepends=True) if lines.count(b"\n") > 1 else (lines,):
            if self._lines_in_file > 1 and self.size + len(line) > self.limit:
                self._rotate()
            super().write_lines(line)
            self._lines_in_file += 1

    def _rotate(self) -> None:
        self._finish(self.index)
        self.index += 1
        self._file = self._create(self.name)
        self.size = 0
        if self.keep is not None and self.index >= self.keep:
            self._remove(self.index - self.keep)
        self._begin()

    def _finish(self, index: int) -> None:
        self.flush()
        self._file.close()
        self._rename(self.name, f"{self.name}.{index}")

    def _rename(self, old: str, new: str) -> None:
        try:
            os.replace(old, new)
        except OSError as error:
            raise OutputError(f"cannot rename {old} to {new}: {os.strerror(error.errno or 0)}") from error

    def _remove(self, index: int) -> None:
        try:
            os.unlink(f"{self.name}.{index}")
        except OSError as error:
            log.warning("cannot remove %s.%d: %s", self.name, index, os.strerror(error.errno or 0))

    def close(self) -> None:
        """Write the rest and give the last file its name; kept files are counted from 0."""
        if self._closed:
            return
        self._closed = True
        self._finish(self.index)
        made = self.index + 1
        if self.keep is not None and made >= self.keep:
            for number in range(self.keep):
                old = made - self.keep + number
                if old != number:
                    self._rename(f"{self.name}.{old}", f"{self.name}.{number}")
        kept = f", kept {self.keep}" if self.keep is not None and made > self.keep else ""
        log.info("Wrote %d event file(s)%s", made, kept)
