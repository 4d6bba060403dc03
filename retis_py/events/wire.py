"""Raw events: what the BPF side submits, and how it becomes an event.

A raw event is a fixed header, then the sections its `sections` bitmap names, in bit order and without gaps, then,
if one of them has a `tail`, that many bytes. Which sections come together depends on the probe and the packet but
only a handful of combinations occur in a run: each gets one combined `struct` and one function, made on first
sight. Sizes must match to the byte (perf's padding aside); a raw event that does not costs that event and is
counted by the caller.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from retis_py.errors import MalformedEvent
from retis_py.events.core import CommonSection, KernelSection, Task, UserspaceSection
from retis_py.events.event import attribute
from retis_py.events.raw import Raw, char, s64, u16, u32, u64

__all__ = [
    "HEADER",
    "MAX_EVENT",
    "ArgsRaw",
    "Decoder",
    "HeaderRaw",
    "Part",
    "RetRaw",
    "StackRaw",
    "UserRaw",
    "text",
]


class HeaderRaw(Raw):
    """First bytes of every raw event. `sections` is a bitmap of section ids, `probe` an index into the run's probes."""

    _fields_ = [
        ("timestamp", u64),
        ("sections", u32),
        ("probe", u16),
        ("cpu", u16),
        ("pid_tgid", u64),
        ("comm", char * 16),
    ]


class StackRaw(Raw):
    """What bpf_get_stackid() returned: an id in the stack map, negative if there is no stack."""

    _fields_ = [("id", s64)]


class UserRaw(Raw):
    """Of a user space probe: the address of the probe's site."""

    _fields_ = [("ip", u64)]


class ArgsRaw(Raw):
    """Argument registers at the entry of a function, or the first arguments of a tracepoint."""

    _fields_ = [("registers", u64 * 6)]


class RetRaw(Raw):
    """Return register of a function."""

    _fields_ = [("value", u64)]


HEADER = struct.Struct("=" + HeaderRaw.code())
#: bytes of the largest event the BPF side can build (bpf/event.h)
MAX_EVENT = 2048


class Part(NamedTuple):
    """One section id: which raw layout it is, and which event section it helps to fill."""

    name: str
    layout: type[Raw]
    #: key of the event section
    section: str
    #: what it means depends on the probe: its maker is given the probe's index first
    of_probe: bool = False


@lru_cache(maxsize=4096)
def text(raw: bytes) -> str:
    """A NUL-terminated kernel string, invalid UTF-8 replaced."""
    return raw.split(b"\0", 1)[0].decode(errors="replace")


@lru_cache(maxsize=4096)
def _task(pid_tgid: int, comm: bytes) -> Task:
    pid, tid = pid_tgid >> 32, pid_tgid & 0xFFFF_FFFF
    return Task(pid - (pid >> 31 << 32), tid - (tid >> 31 << 32), text(comm))


def _common(timestamp: int, cpu: int, pid_tgid: int, comm: bytes) -> CommonSection:
    return CommonSection(timestamp, cpu, _task(pid_tgid, comm))


def _user(probe: Any, pid_tgid: int, ip: int) -> UserspaceSection:
    if not isinstance(probe, UserspaceSection):
        raise MalformedEvent("raw event: not of a user space probe")
    task = _task(pid_tgid, b"")
    return UserspaceSection(probe.probe_type, probe.symbol, ip, probe.path, task.pid, task.tgid)


class _Plan(NamedTuple):
    unpack: Callable[[bytes], tuple[Any, ...]]
    #: bytes before the tail
    size: int
    #: index of the value that counts the tail's bytes, or None
    tail: int | None
    build: Callable[[tuple[Any, ...], bytes], Any]


class Decoder:
    """Turns raw events into events.

    *parts* lists all section ids in bit order; *makers(section, names)* gives the function that builds an event
    section from the values of the named parts (and, last, the tail's bytes if one of them has a tail): a section,
    or None to leave it out. *probes* are the run's kernel (or userspace) sections by index; a probe may be added while
    running.
    """

    def __init__(
        self,
        event_type: Any,
        parts: Sequence[Part],
        makers: Callable[[str, tuple[str, ...]], Callable[..., Any]],
        probes: Sequence[KernelSection | UserspaceSection],
        special: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self._event_type, self._parts, self._makers = event_type, parts, makers
        self._probes = probes
        self._special = dict(special or {})
        self._plans: dict[int, _Plan] = {}

    def _plan(self, sections: int) -> _Plan:
        """The plan for a bitmap of sections: a combined struct, and generated code that builds the event."""
        if sections >> len(self._parts):
            raise MalformedEvent(f"raw event: unknown sections in bitmap {sections:#x}")
        present = [part for bit, part in enumerate(self._parts) if sections >> bit & 1]
        code, at, tail = "=" + HeaderRaw.code(), HeaderRaw.values(), None
        filled: dict[str, list[tuple[str, int, int, bool]]] = {}
        for part in present:
            count = part.layout.values()
            if part.layout.tail:
                tail = at + [field[0] for field in part.layout._fields_].index(part.layout.tail)
            filled.setdefault(part.section, []).append((part.name, at, at + count, part.layout.tail is not None))
            code, at = code + part.layout.code(), at + count
        scope: dict[str, Any] = {"Event": self._event_type, "common": _common, "probes": self._probes, "user": _user}
        arguments = ["common=common(v[0], v[3], v[4], v[5])"]
        kernel = "probes[v[2]]"
        for number, (section, pieces) in enumerate(filled.items()):
            values = ", ".join(f"*v[{start}:{end}]" for _, start, end, _ in pieces)
            if any(has_tail for *_, has_tail in pieces):
                values += ", tail"
            if section == "userspace":
                kernel = ""
                arguments.append(f"userspace=user(probes[v[2]], v[4], {values})")
                continue
            if any(part.of_probe for part in present if part.section == section):
                values = f"v[2], {values}"
            if section in self._special:
                scope["special"] = self._special[section]
                kernel = f"special(probes[v[2]], {values})"
                continue
            scope[f"make{number}"] = self._makers(section, tuple(name for name, *_ in pieces))
            arguments.append(f"{attribute(section)}=make{number}({values})")
        if kernel:
            arguments.insert(1, f"kernel={kernel}")
        exec(f"def build(v, tail):\n    return Event({', '.join(arguments)})", scope)
        unpacker = struct.Struct(code)
        return _Plan(unpacker.unpack_from, unpacker.size, tail, scope["build"])

    def decode(self, raw: bytes) -> Any:
        """The event in *raw*; raises MalformedEvent if its size is not what its header says."""
        if len(raw) < HEADER.size:
            raise MalformedEvent(f"raw event: got {len(raw)} bytes, need {HEADER.size}")
        sections = int.from_bytes(raw[8:12], _ORDER)
        plan = self._plans.get(sections)
        if plan is None:
            plan = self._plans[sections] = self._plan(sections)
        unpack, size, tail, build = plan
        if len(raw) < size:
            raise MalformedEvent(f"raw event with sections {sections:#x}: got {len(raw)} bytes, need {size}")
        values = unpack(raw)
        due = size + values[tail] if tail is not None else size
        # perf pads a record, its 32-bit length included, to eight bytes: kernel/events/core.c, perf_prepare_sample()
        if not due <= len(raw) < due + 8:
            raise MalformedEvent(f"raw event with sections {sections:#x}: got {len(raw)} bytes, need {due}")
        if values[2] >= len(self._probes):
            raise MalformedEvent(f"raw event: unknown probe {values[2]}")
        return build(values, raw[size:due])


_ORDER: Any = "little" if struct.pack("=H", 1) == b"\1\0" else "big"
