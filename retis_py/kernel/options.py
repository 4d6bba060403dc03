"""Options of a run: what ``retis collect`` was asked for, apart from where events go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retis_py.kernel.selection import AUTO

__all__ = ["Options", "default_pages"]


@dataclass
class Options:
    """What ``retis collect`` was asked for."""

    collectors: Sequence[str] = (AUTO,)
    probes: Sequence[str] = ()
    packet_filter: str | None = None
    meta_filter: str | None = None
    stack: bool = False
    #: probe the functions found in stack traces, too
    probe_stack: bool = False
    skb_sections: Sequence[str] = ()
    cmd: str | None = None
    stop_after: int = 0
    kconf: Path | None = None
    #: perf buffer pages per CPU, a power of two; None: 16 MiB, shared by the CPUs
    buffer_pages: int | None = None
    #: a profile is applied: its probes may be missing here, and there are no automatic ones
    profile: bool = False
    cmdline: str = "retis collect"
    extra: dict[str, Any] = field(default_factory=dict)


def default_pages(cpus: int) -> int:
    """Perf buffer pages per CPU: 16 MiB for all of them, but no less than 512 KiB each; a power of two."""
    pages: int = (16 << 20) // os.sysconf("SC_PAGE_SIZE") // max(cpus, 1)
    return max(1 << pages.bit_length() - 1, 128)
