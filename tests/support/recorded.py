"""Raw events recorded on a real kernel: tests/data/*.event.

``#`` comments (kernel, command, the run's probes, the event's sections), the raw bytes in hex, then the event as JSON
and as text. The bitmap of sections in the bytes is made anew from their names: ids move when a collector is added.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from retis_py.collectors import COLLECTORS, Event
from retis_py.collectors.parts import PARTS
from retis_py.events.core import KernelSection
from retis_py.events.wire import Decoder, HeaderRaw
from retis_py.kernel.signature import Signature, values_maker
from tests.support.kernels import FakeKernel

__all__ = ["DATA", "Recorded", "decoder", "load", "with_sections"]

DATA = Path(__file__).resolve().parents[1] / "data"


class Recorded(NamedTuple):
    """One recorded event."""

    probes: list[KernelSection]
    raw: bytes
    json: str
    text: str


def load(name: str) -> Recorded:
    """The recording *name*, of tests/data."""
    lines = (DATA / f"{name}.event").read_text().splitlines()
    probes, sections = (
        next(line for line in lines if line.startswith(f"# {what}:")).split()[2:] for what in ("probes", "sections")
    )
    body = [line for line in lines if not line.startswith("#")]
    at = next(number for number, line in enumerate(body) if line.startswith("{"))
    kernels = [KernelSection(symbol, kind) for kind, _, symbol in (probe.partition("/") for probe in probes)]
    raw = with_sections(bytes.fromhex("".join(body[:at])), sections)
    return Recorded(kernels, raw, body[at], "\n".join(body[at + 1 :]))


def with_sections(raw: bytes, names: Collection[str]) -> bytes:
    """A raw event with the bitmap of the sections *names*."""
    header = HeaderRaw.from_buffer_copy(raw)
    header.sections = sum(1 << bit for bit, part in enumerate(PARTS) if part.name in names)
    return bytes(header) + raw[len(bytes(header)) :]


#: what the recording kernel said of its drop reasons and members
_KERNEL = FakeKernel({"skb_drop_reason": {"SKB_DROP_REASON_NO_SOCKET": 3}})


def decoder(recorded: Recorded) -> Decoder:
    """The decoder of the recording's run."""
    makers = {}
    for kind in COLLECTORS:
        if kind.layouts:
            collector = kind()
            collector.setup(_KERNEL, {})
            makers.update(dict.fromkeys(kind.layouts, collector))
    signatures = [Signature()] * len(recorded.probes)

    def maker(section, parts):
        return values_maker(signatures, parts) if section == "args" else makers[section].maker(section, parts)

    return Decoder(Event, PARTS, maker, recorded.probes)
