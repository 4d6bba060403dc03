"""Startup events: what a file of events begins with."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec

from retis_py.collectors import Event
from retis_py.events.core import CommonSection, Machine, SplitFile, StartupSection, TimeSpec
from retis_py.kernel.merge import now
from retis_py.version import file_version

__all__ = ["next_part", "startup_event"]


def startup_event(cmdline: str) -> Any:
    """The first event of a file: who collected it, where, and how its times become dates."""
    monotonic = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    offset = time.clock_gettime_ns(time.CLOCK_REALTIME) - monotonic
    machine = os.uname()
    return Event(
        common=CommonSection(monotonic),
        startup=StartupSection(
            file_version(),
            cmdline,
            TimeSpec(*divmod(offset, 1_000_000_000)),
            Machine(machine.release, machine.version, machine.machine),
        ),
    )


def next_part(startup: Any, split: SplitFile) -> Any:
    """The startup event of one of a collection's split files: of now, with the offset of the first."""
    return Event(common=CommonSection(now()), startup=msgspec.structs.replace(startup.startup, split_file=split))
