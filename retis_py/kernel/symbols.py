"""Names the kernel gives: /proc/kallsyms, and the lists of what tracefs can trace.

All of it is read when first asked for: together the lists are a quarter of a million lines, and a default run needs
none of them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property
from pathlib import Path

from retis_py.errors import KernelError

__all__ = ["Symbols", "Tracefs"]

_LINE = re.compile(r"^(\w+) . ([^\t\n]+)(?:\t\[([^]\n]*))?", re.MULTILINE)
_RIGHTS = "Retis likely does not have the rights to read the symbol addresses from /proc/kallsyms."


class Symbols:
    """/proc/kallsyms"""

    def __init__(self, path: Path = Path("/proc/kallsyms")) -> None:
        self.path = path

    @cached_property
    def _raw(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise KernelError(f"cannot read {self.path}: {error.strerror}") from None

    def find(self, name: str) -> tuple[int, str | None] | None:
        """Address and module (None: the kernel itself) of a symbol; the first, where a name is there twice."""
        raw, text = self._raw, b" " + name.encode()
        at = raw.find(text)
        while at >= 0:
            end = at + len(text)
            if raw[end : end + 1] in (b"\n", b"\t", b""):
                line = raw[raw.rfind(b"\n", 0, at) + 1 : at]
                module = raw[end + 2 : raw.find(b"]", end)].decode() if raw[end : end + 1] == b"\t" else None
                return int(line.split(b" ", 1)[0], 16), module
            at = raw.find(text, end)
        return None

    @cached_property
    def table(self) -> dict[str, tuple[int, str | None]]:
        """Address and module by name, as `find` has them: for many names."""
        lines = _LINE.findall(self._raw.decode(errors="replace"))
        return {name: (int(address, 16), module or None) for address, name, module in reversed(lines)}

    @cached_property
    def _by_address(self) -> tuple[list[int], list[str]]:
        names: dict[int, str] = {}
        for line in self._raw.splitlines():
            address, _, rest = line.split(b" ", 2)
            name = rest.split(b"\t", 1)[0]
            if not name.startswith(b"$"):  # arm64's mapping symbols
                names.setdefault(int(address, 16), name.decode(errors="replace"))
        if not any(names):
            raise KernelError(_RIGHTS, hint="run as root, or see kernel.kptr_restrict")
        addresses = sorted(names)
        return addresses, [names[address] for address in addresses]

    def name(self, address: int) -> str:
        """``symbol+0xoff`` of an instruction, ``0xaddr`` if nothing is before it."""
        addresses, names = self._by_address
        at = bisect_right(addresses, address) - 1
        return f"{names[at]}+{address - addresses[at]:#x}" if at >= 0 else f"{address:#x}"


class Tracefs:
    """What tracefs lists as traceable. Its files need root, and lockdown hides some of them."""

    PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))

    def __init__(self, places: tuple[Path, ...] = PLACES) -> None:
        self.places = places

    def _read(self, name: str) -> str | None:
        for place in self.places:
            try:
                return (place / name).read_text()
            except OSError:
                continue
        return None

    @cached_property
    def functions(self) -> frozenset[str] | None:
        """Functions kprobes can be put on, None if that cannot be read."""
        text = self._read("available_filter_functions")
        return None if text is None else frozenset(line.split(" ", 1)[0] for line in text.splitlines())

    @cached_property
    def events(self) -> frozenset[str] | None:
        """Tracepoints as ``group:name``, None if that cannot be read."""
        text = self._read("available_events")
        return None if text is None else frozenset(text.split())
