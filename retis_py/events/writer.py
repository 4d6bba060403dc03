"""Writing event files: JSON lines, byte for byte in upstream's style.

A reader must never meet half a line: what a full disk or a dead pipe cut off is taken back where that is
possible (regular files), and the error surfaces at once, as OutputError.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, BinaryIO

import msgspec

from retis_py.errors import OutputError

__all__ = ["EventWriter"]

#: bytes gathered before they are written
_BUFFER = 1 << 18

_encoder = msgspec.json.Encoder()
#: one event or series as JSON, without newline
encode = _encoder.encode


class EventWriter:
    """Writes events, or series of events, one per line, to a path or an open unbuffered binary file.

    Lines are gathered and written in large pieces; `flush` or `close` (or leaving a ``with``) writes the
    rest. The first event must be the startup event. Raises OutputError.
    """

    def __init__(self, out: str | os.PathLike[str] | BinaryIO) -> None:
        self._lines: list[bytes] = []
        self._held = 0
        self._owned = isinstance(out, (str, os.PathLike))
        if isinstance(out, (str, os.PathLike)):
            self.name = os.fspath(out)
            self._file: BinaryIO = self._create(self.name)
        else:
            self.name = str(getattr(out, "name", "output"))
            self._file = out
        #: bytes written so far to the current file, the ones held back included
        self.size = 0

    @staticmethod
    def _create(name: str) -> BinaryIO:
        try:
            return open(name, "wb", buffering=0)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise OutputError(f"Could not create or open '{name}'", hint=reason) from None

    def write(self, event: Any) -> None:
        """Write an event, or the list of events of a series, as one line."""
        self.write_lines(encode(event) + b"\n")

    def write_lines(self, lines: bytes) -> None:
        """Write JSON *lines*, each with its newline."""
        self._lines.append(lines)
        self._held += len(lines)
        self.size += len(lines)
        if self._held >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the system. After an error the file ends with a complete line."""
        if not self._lines:
            return
        data = memoryview(b"".join(self._lines))
        self._lines.clear()
        self._held = 0
        done = 0
        try:
            while done < len(data):
                done += self._file.write(data[done:]) or 0
        except OSError as error:
            self._drop_partial_line(data, done)
            raise OutputError(f"cannot write to {self.name}: {os.strerror(error.errno or 0)}") from error

    def _drop_partial_line(self, data: memoryview, done: int) -> None:
        partial = done - (bytes(data[:done]).rfind(b"\n") + 1)
        if not partial:
            return
        try:
            self._file.seek(-partial, os.SEEK_CUR)
            self._file.truncate()
        except (OSError, ValueError):
            pass  # a pipe: its reader has the partial line already

    def close(self) -> None:
        """Write the rest and close the file, if it was opened here. May be called again."""
        try:
            self.flush()
        finally:
            if self._owned and not self._file.closed:
                try:
                    self._file.close()
                except OSError as error:
                    raise OutputError(
                        f"cannot write to {self.name}: {os.strerror(error.errno or 0)}"
                    ) from error

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()
