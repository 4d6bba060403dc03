"""Raw events recorded on a real kernel: tests/data/*.event.

``#`` comments (kernel, command, the run's probes), the raw bytes in hex, then the event as JSON and as text.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from retis_py.collectors import COLLECTORS, Event
from retis_py.collectors.parts import PARTS
from retis_py.events.core import KernelSection
from retis_py.events.wire import Decoder

__all__ = ["DATA", "Recorded", "decoder", "load"]

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
    probes = next(line for line in lines if line.startswith("# probes:")).split()[2:]
    body = [line for line in lines if not line.startswith("#")]
    at = next(number for number, line in enumerate(body) if line.startswith("{"))
    kernels = [KernelSection(symbol, kind) for kind, _, symbol in (probe.partition("/") for probe in probes)]
    return Recorded(kernels, bytes.fromhex("".join(body[:at])), body[at], "\n".join(body[at + 1 :]))


class _Kernel:
    """What the recording kernel said of its drop reasons and members."""

    class types:
        class vmlinux:
            @staticmethod
            def has_member(_struct: str, _path: str) -> bool:
                return True

            @staticmethod
            def enum(name: str) -> dict[str, int] | None:
                return {"SKB_DROP_REASON_NO_SOCKET": 3} if name == "skb_drop_reason" else None

        enum = vmlinux.enum


def decoder(recorded: Recorded) -> Decoder:
    """The decoder of the recording's run."""
    makers = {}
    for kind in COLLECTORS:
        if kind.layouts:
            collector = kind()
            collector.setup(_Kernel, {})
            makers.update(dict.fromkeys(kind.layouts, collector))
    return Decoder(Event, PARTS, lambda section, parts: makers[section].maker(section, parts), recorded.probes)
