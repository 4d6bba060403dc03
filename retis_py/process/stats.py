"""stats: how many events of which probe a file has, and from when to when.

Only time, probe and startup section are decoded. Blocks of lines are counted on their own (`count_block`), by
several processes for large files, and added up in order (`Stats.add`).
"""

import datetime
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple, Optional

import msgspec

from retis_py.errors import RetisError
from retis_py.events.core import StartupSection
from retis_py.events.event import BaseEvent
from retis_py.events.file import Reader, open_events
from retis_py.events.section import U64
from retis_py.events.source import Block
from retis_py.events.visible import visible
from retis_py.process.blocks import BlockDecoder
from retis_py.process.progress import watch
from retis_py.process.team import map_blocks

__all__ = ["Part", "StatsEvent", "count_file", "render"]

log = logging.getLogger(__name__)


class _Common(msgspec.Struct, gc=False):
    timestamp: U64


class _Probe(msgspec.Struct, frozen=True, gc=False):
    probe_type: str
    symbol: str


class StatsEvent(BaseEvent, gc=False, kw_only=True):
    """What stats needs of an event."""

    common: Optional[_Common] = None
    kernel: Optional[_Probe] = None
    userspace: Optional[_Probe] = None
    startup: Optional[StartupSection] = None


_U64_MAX = 0xFFFF_FFFF_FFFF_FFFF
_NO_PROBE = "no kernel or userspace section"
_NO_COMMON = "no common section"
#: probes told apart in a part, and the characters their names may have: a kernel has some 100,000 functions, of which
#: a collection that ends well probes thousands
_PROBES, _NAMES = 1 << 16, 8 << 20
#: parts told apart: there is one for each split file
_PARTS = 4096


class Part(msgspec.Struct):
    """Counts of the events after one startup event; *startup* is None for a block that begins without one."""

    startup: Optional[StartupSection] = None
    events: int = 0
    series: int = 0
    first: Optional[int] = None
    last: int = 0
    probes: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)
    #: characters of their names
    names: int = 0
    #: events of other probes, met after there were too many
    others: int = 0
    #: why events are not counted -> how many
    invalid: Counter[str] = msgspec.field(default_factory=Counter)

    def add(self, other: "Part") -> None:
        """Add what comes after."""
        self.events += other.events
        self.series += other.series
        if self.first is None:
            self.first = other.first
        self.last = max(self.last, other.last)
        for probe, number in other.probes.items():
            self._add_probe(probe, number)
        self.others += other.others
        self.invalid.update(other.invalid)

    def _add_probe(self, probe: tuple[str, str], number: int) -> None:
        if probe not in self.probes:
            length = len(probe[0]) + len(probe[1])
            if len(self.probes) >= _PROBES or self.names + length > _NAMES:
                self.others += number
                return
            self.names += length
        self.probes[probe] += number

    def count(self, events: list[Any]) -> None:
        """Count *events*, none of which is a startup event."""
        try:
            times = list(map(attrgetter("common.timestamp"), events))
        except AttributeError:
            whole = [event for event in events if event.common is not None]
            self.invalid[_NO_COMMON] += len(events) - len(whole)
            return self.count(whole)
        if not events:
            return
        # map, Counter and max loop in C
        probes = Counter(map(attrgetter("kernel"), events))
        if probes.pop(None, 0):
            events = [event for event in events if event.kernel is not None or event.userspace is not None]
            self.invalid[_NO_PROBE] += len(times) - len(events)
            times = [event.common.timestamp for event in events]
            probes = Counter(event.kernel or event.userspace for event in events)
            if not events:
                return
        self.events += len(events)
        if self.first is None:
            self.first = times[0]
        self.last = max(self.last, max(times))
        for probe, number in probes.items():
            self._add_probe((probe.probe_type, probe.symbol), number)


class Counted(NamedTuple):
    """A block's parts, the first of which goes on with the part before it; *error* ended the block."""

    parts: list[Part]
    error: Optional[RetisError]


def _count_items(items: list[Any], is_sorted: bool, parts: list[Part]) -> None:
    """Count *items* into *parts*, whose last is the current one."""
    batch: list[Any] = []
    for item in items:
        for event in item if is_sorted else (item,):
            if event.startup is not None:
                parts[-1].count(batch)
                batch = []
                parts.append(Part(startup=event.startup))
                if event.kernel is not None or event.userspace is not None:
                    batch.append(event)
            else:
                batch.append(event)
        if is_sorted and any(event.startup is None for event in item):
            parts[-1].series += 1
    parts[-1].count(batch)


def count_block(decoder: BlockDecoder, is_sorted: bool, block: Block) -> Counted:
    """The counts of *block*."""
    counted = _count(decoder.items(block), is_sorted)
    if max(part.last for part in counted.parts) > _U64_MAX:
        return _count(decoder.checked(block), is_sorted)
    return counted


def _count(given: Iterable[Any], is_sorted: bool) -> Counted:
    items: list[Any] = []
    error: Optional[RetisError] = None
    try:
        items.extend(given)
    except RetisError as problem:
        error = problem  # what came before it counts
    parts = [Part()]
    events = list(chain.from_iterable(items)) if is_sorted else items
    if any(map(attrgetter("startup"), events)):
        _count_items(items, is_sorted, parts)
    else:
        parts[0].count(events)
        parts[0].series = sum(map(bool, items)) if is_sorted else 0
    return Counted(parts, error)


def count_file(
    path: str, rotate: bool = False, stopped: Callable[[], bool] = lambda: False, progress: bool = False
) -> tuple[list[Part], Optional[RetisError]]:
    """The parts of a file, one per startup event, and the error that ended it, if one did.

    *progress* says to show how far it is, see `watch`.
    """
    reader: Reader[Any] = open_events(path, StatsEvent, rotate)
    decoder = BlockDecoder(reader)
    is_sorted = reader.is_sorted
    parts: list[Part] = []
    too_many = 0
    error: Optional[RetisError] = None
    with watch(reader.source, stopped, progress) as watched:
        for counted in map_blocks(
            reader.source, lambda block: count_block(decoder, is_sorted, block), watched, batch=4
        ):
            head, *rest = counted.parts
            if parts:
                parts[-1].add(head)
            elif head.events or head.invalid:
                raise RetisError("missing startup event")
            for part in rest:
                # events of all split files are mixed in a series file: it has one beginning, that of the first
                if parts and (is_sorted or len(parts) >= _PARTS):
                    parts[-1].add(part)
                    too_many += not is_sorted
                else:
                    parts.append(part)
            error = counted.error
            if error is not None:
                break
    if too_many:
        log.warning("%d startup event(s) too many: what follows them is counted with what is before", too_many)
    for reason, number in sum((part.invalid for part in parts), Counter[str]()).items():
        times = f" ({number} events)" if number > 1 else ""
        log.warning("Error gathering stats from event: Invalid event: %s%s", reason, times)
    return parts, error


def _date(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    except OverflowError:
        return f"{nanoseconds} ns"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest // 1000:06d}"


def render(parts: list[Part]) -> Iterator[str]:
    """The lines ``retis stats`` prints."""
    for part in parts:
        startup = part.startup
        assert startup is not None
        split = startup.split_file
        if split is None or split.id == 0:
            yield f"Retis version: {visible(startup.retis_version)}"
            yield f"Retis cmdline: {visible(startup.cmdline)}"
        if split is not None:
            yield ""
            yield f"Split index: {split.id}"
        if part.series:
            yield f"Number of series: {part.series}"
        yield f"Number of events: {part.events}"
        if part.first is not None:
            offset = startup.clock_monotonic_offset.nanoseconds()
            yield f"First event at: {_date(part.first + offset)}"
            yield f"Last event at: {_date(part.last + offset)}"
        if part.probes or part.others:
            yield "Probes:"
            for (probe_type, symbol), number in sorted(part.probes.items(), key=lambda item: -item[1]):
                yield f"  {visible(probe_type)}/{visible(symbol)}: {number}"
        if part.others:
            yield f"  others, too many to tell apart: {part.others}"
