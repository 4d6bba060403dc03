"""The kernel's build configuration."""

from __future__ import annotations

import gzip
import logging
import os
from pathlib import Path

from retis_py.errors import KernelError

__all__ = ["KernelConfig"]

_log = logging.getLogger(__name__)


def _places(release: str) -> list[Path]:
    return [
        Path("/proc/config.gz"),
        Path(f"/boot/config-{release}"),
        Path(f"/lib/modules/{release}/config"),
        Path(f"/run/host/usr/lib/modules/{release}/config"),
    ]


class KernelConfig:
    """CONFIG_ options by name; unknown as a whole where no file is found."""

    def __init__(self, path: Path | None = None, release: str | None = None) -> None:
        self._values: dict[str, str] | None = None
        if path is not None:
            try:
                self._values = _parse(path.read_bytes())
            except (OSError, EOFError) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else error
                raise KernelError(f"Could not read {path}: {reason}") from None
            return
        for place in _places(release or os.uname().release):
            try:
                self._values = _parse(place.read_bytes())
                return
            except (OSError, EOFError):
                continue
        _log.debug("Could not parse kernel configuration from known paths: some checks won't be performed")

    @property
    def known(self) -> bool:
        """Whether a configuration was found."""
        return self._values is not None

    def get(self, option: str) -> str | None:
        """``y``, ``m``, ``n`` or a value without quotes; None if not known."""
        if self._values is None:
            return None
        return self._values.get(option, "n")


def _parse(raw: bytes) -> dict[str, str]:
    text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode(errors="replace")
    values = {}
    for line in text.splitlines():
        if line.startswith("CONFIG_") and "=" in line:
            name, value = line.split("=", 1)
            values[name] = value.strip().strip('"')
        elif line.startswith("# CONFIG_") and line.endswith(" is not set"):
            values[line.split()[1]] = "n"
    return values
