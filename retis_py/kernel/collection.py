"""Collection: one run of ``retis collect``, from the options to the last event written."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from retis_py.collectors import Event
from retis_py.collectors.base import Collector
from retis_py.collectors.parts import PARTS
from retis_py.errors import KernelError, UsageError
from retis_py.events.core import KernelSection, ProbeSection, UserspaceSection
from retis_py.events.wire import Decoder
from retis_py.filters.meta import meta_filter
from retis_py.filters.packet import PacketFilter, packet_filter
from retis_py.kernel import features
from retis_py.kernel.attach import attach_all, gather, progress
from retis_py.kernel.command import Command
from retis_py.kernel.compose import HIT_MEMORY, Run, Shape, compose
from retis_py.kernel.cpus import online_cpus
from retis_py.kernel.decoding import Decoding
from retis_py.kernel.facts import kernel_macros, kernel_types
from retis_py.kernel.losses import Ledger
from retis_py.kernel.merge import TimeOrder, now, timestamp_of
from retis_py.kernel.options import Options, default_pages
from retis_py.kernel.plan import AUTOMATIC, AUTOMATIC_STACK, Planned, plan, plan_user
from retis_py.kernel.probe_stack import LATE, ROOM, StackProbes
from retis_py.kernel.probes import Probe
from retis_py.kernel.selection import AUTO, select
from retis_py.kernel.session import Session
from retis_py.kernel.signature import signature, values_maker
from retis_py.kernel.stacks import Stacks
from retis_py.kernel.system import System
from retis_py.kernel.tracking import TrackingGarbage
from retis_py.kernel.usdt import UserProcess

__all__ = ["Collection", "Options"]

_log = logging.getLogger(__name__)

#: seconds between two looks at the buffers when nothing comes
_IDLE = 0.01
#: events decoded at once
_PIECE = 4096
#: seconds between two looks at the process with USDT probes
_LOOK = 1.0


class Collection:
    """One run. `prepare`, `attach`, `begin`, then `events` until it ends, then `close`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.processed = 0
        #: all events were waited for
        self._complete = False
        self._loaded, self._begun = 0, False
        #: tells whether the run was asked to end; it then still delivers what was collected so far
        self.stopped: Callable[[], bool] = lambda: False
        self._command: Command | None = None
        self._session: Session | None = None
        self._filter: PacketFilter | None = None
        self._meta: str | None = None
        self._ledger: Ledger | None = None
        self._garbage: TrackingGarbage | None = None
        self._stack_probes: StackProbes | None = None
        self._collectors: Sequence[Collector] = ()
        self._planned: list[Planned] = []
        self._kernels: list[ProbeSection] = []
        self._shapes: list[Shape] = []
        self._process: UserProcess | None = None
        self._looked = 0.0

    def prepare(self) -> None:
        """Everything that can fail without touching the kernel: rights, collectors, filters, probes."""
        options = self.options
        system = self._system = System(options.kconf)
        features.check_rights()
        mode = features.lockdown()
        if mode == "confidentiality":
            raise KernelError(
                "this kernel is locked down (confidentiality): BPF programs cannot read its memory",
                hint="boot without lockdown=confidentiality; `make demo` shows retis in a VM",
            )
        if options.probe_stack and options.packet_filter is None and options.meta_filter is None:
            raise UsageError("Probe-stack mode requires filtering (--filter-packet and/or --filter-meta)")
        if options.packet_filter is not None:
            self._filter = packet_filter(options.packet_filter)
        if options.meta_filter is not None:
            self._meta = meta_filter(options.meta_filter, system.types)
        settings = {"skb_sections": options.skb_sections, **options.extra}
        self._collectors = select(options.collectors, system, settings)
        for option in ("ovs_track", "ovs_enrich_flows"):
            if options.extra.get(option) and "ovs" not in (c.name for c in self._collectors):
                raise UsageError(
                    f"--{option.replace('_', '-')} needs collector ovs", hint="-c ovs says why, if it cannot run here"
                )
        if not system.kprobes:
            _log.warning(
                "this kernel has no kprobes: collecting from tracepoints only (no function probes; a packet whose "
                "head is replaced gets a new id)"
            )
        if self._filter is not None:
            _log.info("%s", self._filter.message())
        self._planned = self._plan(system)

    def _plan(self, system: System) -> list[Planned]:
        options = self.options
        specs = list(options.probes)
        if not specs and not options.profile and tuple(options.collectors) == (AUTO,):
            specs = list(AUTOMATIC_STACK if options.probe_stack else AUTOMATIC)
            _log.info("No probe(s) given: using %s", ", ".join(specs))
        stack = options.stack or options.probe_stack
        planned = plan(specs, system, self._collectors, stack, tolerant=options.profile)
        for collector in self._collectors:
            pid = collector.process()
            if pid is not None:
                self._process = UserProcess(pid)
                planned += plan_user(collector, self._process)
        if not any(entry.required for entry in planned):
            _log.warning("no probe reports events: give some with --probe")
        return planned

    def text(self) -> str:
        """The C text of the run."""
        self._planned = gather(self._planned)
        shapes = self._shapes = list(dict.fromkeys(entry.shape for entry in self._planned))
        if self.options.probe_stack and self._system.kprobes:
            shapes.append(LATE)
        vmlinux = self._system.types.vmlinux
        run = Run(
            self._collectors,
            shapes,
            self._filter,
            self._meta,
            kernel_types(self._system.types, self._collectors),
            kernel_macros(vmlinux, self._collectors),
            max_probes=max(len(self._planned), 1) + (ROOM if LATE in shapes else 0),
            reduced=not self._system.kprobes,
            tracking_entries=8192 if self._system.kprobes else 65536,
            usdt=self._enable_usdt(),
        )
        return compose(run)

    def _enable_usdt(self) -> str:
        if self._process is None:
            return ""
        for entry in self._planned:
            if entry.probe.type == "usdt":
                function = entry.shape.function(self._shapes.index(entry.shape))
                self._process.enable(entry.probe.symbol, function)
        return self._process.text()

    def attach(self) -> None:
        """Compile, load, attach."""
        for collector in self._collectors:
            collector.start()
        self._order = TimeOrder()
        pages = self.options.buffer_pages or default_pages(len(online_cpus()))
        self._session = session = Session(self.text(), self._order.add, pages, self._blame())
        self._loaded = attach_all(session, self._planned, self._shapes, self._system, self._process)
        self._kernels[:] = [self._probe_section(entry.probe) for entry in self._planned]
        self._stacks = Stacks(session, self._system.symbols, self._reporting())
        signatures = [signature(entry.probe, self._system) for entry in self._planned]
        makers = {section: c for c in self._collectors for section in c.layouts}
        decoder = Decoder(
            Event,
            PARTS,
            lambda section, parts: (
                values_maker(signatures, parts) if section == "args" else makers[section].maker(section, parts)
            ),
            self._kernels,
            {"kernel": self._stacks.section},
        )
        self._decoding = Decoding(decoder, self._collectors)
        quiet = {index for index, entry in enumerate(self._planned) if entry.shape.flags & HIT_MEMORY}
        self._ledger = Ledger(session, self._kernels, quiet)
        if LATE in self._shapes:
            function = LATE.function(self._shapes.index(LATE))
            self._stack_probes = StackProbes(
                session, self._system, self._collectors, self._planned, self._kernels, function
            )
        self._garbage = TrackingGarbage(session) if self._planned else None

    def begin(self) -> None:
        """Let all programs work at once."""
        assert self._session is not None
        self._session.enable()
        self._begun = True
        _log.info("%d probe(s) loaded", self._loaded)

    def _probe_section(self, probe: Probe) -> ProbeSection:
        if probe.type != "usdt":
            return KernelSection(probe.symbol, probe.type)
        assert self._process is not None
        return UserspaceSection("usdt", probe.symbol, 0, self._process.path, 0, 0)

    def _blame(self) -> str:
        """What the filters add to the size of programs."""
        sizes = []
        if self._filter is not None:
            sizes.append(f"the packet filter has {self._filter.size} instructions")
        if self._meta is not None:
            sizes.append(f"the meta filter takes {self._meta.count(chr(10))} lines of C")
        return f" ({', '.join(sizes)})" if sizes else ""

    def _reporting(self) -> set[ProbeSection] | None:
        """The probes that report stack traces; None: all that have one."""
        if self.options.stack or not self.options.probe_stack:
            return None
        entries = zip(self._kernels, self._planned)
        return {kernel for kernel, entry in entries if "stack" in entry.probe.options}

    def events(self) -> Iterator[list[Any]]:
        """Batches of events in order of time, until the run ends; an empty batch is a moment to flush outputs."""
        session, left = self._session, self.options.stop_after or None
        assert session is not None
        if self.options.cmd is not None:
            self._command = Command(self.options.cmd)
        ending = False
        while True:
            if not ending and (self.stopped() or (self._command is not None and self._command.ended())):
                ending = True
                session.stop()
            began, under_way = now(), session.cpus.under_way()
            session.poll()
            limit = None if ending else self._order.limit(began, under_way)
            for raws, until in _pieces(self._order.ready(limit), limit):
                batch = self._decoding.batch(raws, until)
                if left is not None and len(batch) >= left:
                    del batch[left:]
                    _log.info("Reached stop count (%d), terminating...", self.options.stop_after)
                    session.stop()
                    self.processed += len(batch)
                    yield batch
                    return
                if left is not None:
                    left -= len(batch)
                self.processed += len(batch)
                yield batch
                if self._ledger is not None:
                    self._ledger.watch()
            if ending:
                self._complete = True
                return
            if self._stack_probes is not None:
                self._stack_probes.look(self._stacks.take_new())
            if self._garbage is not None:
                self._garbage.collect(quiet=not self._system.kprobes)
            self._watch_process()
            if not batch:
                time.sleep(_IDLE)

    def _watch_process(self) -> None:
        """Tell once that the process with our USDT probes has ended: a new one does not have them."""
        if self._process is None or time.monotonic() < self._looked + _LOOK:
            return
        self._looked = time.monotonic()
        if not self._process.alive():
            _log.warning("process %d has ended: its probes report nothing any more", self._process.pid)
            self._process.close()
            self._process = None

    def close(self) -> None:
        """End of the run: detach, tell what was lost, and give everything back. May be called at any point."""
        if self._command is not None:
            self._command.terminate()
        session, self._session = self._session, None
        try:
            if session is not None:
                self._end(session)
        finally:
            collectors, self._collectors = self._collectors, ()
            process, self._process = self._process, None
            try:
                _stop(collectors)
            finally:
                if process is not None:
                    process.close()

    def _end(self, session: Session) -> None:
        try:
            if self._begun:
                _log.info("%d event(s) processed", self.processed)
            with progress("Detaching probes", len(self._planned)) as step:
                session.detach(step)
            if self._ledger is not None:
                self._ledger.summary(self._decoding.came if self._complete else None)
                self._stacks.summary()
                self._decoding.summary()
            if self._order.late:
                _log.warning("%d event(s) came too late to be in order of time", self._order.late)
        finally:
            session.close()


def _stop(collectors: Sequence[Collector]) -> None:
    """Stop each: what one of them cannot undo does not keep the others from undoing what they did to the system."""
    if collectors:
        try:
            collectors[0].stop()
        finally:
            _stop(collectors[1:])


def _pieces(raws: list[bytes], limit: int | None) -> Iterator[tuple[list[bytes], int | None]]:
    """*raws*, which are all events up to *limit*, in pieces with limits of their own: full buffers hold more events
    than should be decoded at once."""
    start = 0
    for start in range(_PIECE, len(raws), _PIECE):
        yield raws[start - _PIECE : start], timestamp_of(raws[start - 1])
    yield raws[start:], limit
