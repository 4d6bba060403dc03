"""Collection: one run of ``retis collect``, from the options to the last event written."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from retis_py.collectors import Event
from retis_py.collectors.base import Collector
from retis_py.collectors.parts import PARTS
from retis_py.errors import KernelError, MalformedEvent
from retis_py.events.core import CommonSection, KernelSection, Machine, SplitFile, StartupSection, TimeSpec
from retis_py.events.wire import Decoder
from retis_py.filters.meta import meta_filter
from retis_py.filters.packet import PacketFilter, packet_filter
from retis_py.kernel import features
from retis_py.kernel.attach import attach_all, gather, progress
from retis_py.kernel.compose import Run, Shape, compose, kernel_macros, kernel_types
from retis_py.kernel.losses import Ledger
from retis_py.kernel.merge import TimeOrder, now
from retis_py.kernel.plan import AUTOMATIC, Planned, plan
from retis_py.kernel.selection import AUTO, select
from retis_py.kernel.session import Session
from retis_py.kernel.system import System
from retis_py.kernel.tracking import TrackingGarbage
from retis_py.version import file_version

__all__ = ["Collection", "Options", "next_part", "startup_event"]

_log = logging.getLogger(__name__)

#: seconds between two looks at the buffers when nothing comes
_IDLE = 0.01


@dataclass
class Options:
    """What ``retis collect`` was asked for."""

    collectors: Sequence[str] = (AUTO,)
    probes: Sequence[str] = ()
    packet_filter: str | None = None
    meta_filter: str | None = None
    stack: bool = False
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


class Collection:
    """One run. `prepare`, `attach`, then `events` until it ends, then `close`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.processed = 0
        self._undecodable, self._first_undecodable = 0, ""
        #: tells whether the run was asked to end; it then still delivers what was collected so far
        self.stopped: Callable[[], bool] = lambda: False
        self._command: subprocess.Popen[bytes] | None = None
        self._session: Session | None = None
        self._filter: PacketFilter | None = None
        self._meta: str | None = None
        self._ledger: Ledger | None = None
        self._garbage: TrackingGarbage | None = None
        self._planned: list[Planned] = []
        self._kernels: list[KernelSection] = []
        self._shapes: list[Shape] = []

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
        if options.packet_filter is not None:
            self._filter = packet_filter(options.packet_filter)
        if options.meta_filter is not None:
            self._meta = meta_filter(options.meta_filter, system.types)
        settings = {"skb_sections": options.skb_sections, **options.extra}
        self._collectors: Sequence[Collector] = select(options.collectors, system, settings)
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
            specs = list(AUTOMATIC)
            _log.info("No probe(s) given: using %s", ", ".join(specs))
        planned = plan(specs, system, self._collectors, options.stack, tolerant=options.profile)
        if not any(entry.required for entry in planned):
            _log.warning("no probe reports events: give some with --probe")
        return planned

    def text(self) -> str:
        """The C text of the run."""
        self._planned = gather(self._planned)
        shapes = self._shapes = list(dict.fromkeys(entry.shape for entry in self._planned))
        vmlinux = self._system.types.vmlinux
        run = Run(
            self._collectors,
            shapes,
            self._filter,
            self._meta,
            kernel_types(self._system.types, self._collectors),
            kernel_macros(vmlinux, self._collectors),
            max_probes=max(len(self._planned), 1),
            reduced=not self._system.kprobes,
            tracking_entries=8192 if self._system.kprobes else 65536,
        )
        return compose(run)

    def attach(self) -> None:
        """Compile, load, attach; then let all programs work at once."""
        self._order = TimeOrder()
        pages = self.options.buffer_pages or default_pages(len(os.sched_getaffinity(0)))
        self._session = session = Session(self.text(), self._order.add, pages)
        loaded = attach_all(session, self._planned, self._shapes, self._system.symbols)
        self._kernels[:] = [KernelSection(entry.probe.symbol, entry.probe.type) for entry in self._planned]
        makers = {section: c for c in self._collectors for section in c.layouts}
        self._decoder = Decoder(
            Event,
            PARTS,
            lambda section, parts: makers[section].maker(section, parts),
            self._kernels,
            {"kernel": self._with_stack},
        )
        self._ledger = Ledger(session, [entry.probe.symbol for entry in self._planned])
        self._garbage = TrackingGarbage(session) if self._planned else None
        session.enable(True)
        _log.info("%d probe(s) loaded", loaded)

    def _with_stack(self, kernel: KernelSection, stack_id: int) -> KernelSection:
        assert self._session is not None
        trace = tuple(self._system.symbols.name(address) for address in self._session.stack(stack_id))
        return KernelSection(kernel.symbol, kernel.probe_type, trace) if trace else kernel

    def _start_command(self) -> None:
        if self.options.cmd is None:
            return
        try:
            self._command = subprocess.Popen(
                ["sh", "-c", self.options.cmd], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            _log.warning("could not run the command: %s", error.strerror)

    def _command_ended(self) -> bool:
        if self._command is None or self._command.poll() is None:
            return False
        status = self._command.returncode
        said = f"exit status: {status}" if status >= 0 else f"signal: {-status} ({_signal_name(-status)})"
        _log.info("Command returned (%s), terminating ...", said)
        return True

    def events(self) -> Iterator[list[Any]]:
        """Batches of events in order of time, until the run ends; an empty batch is a moment to flush outputs."""
        session, left = self._session, self.options.stop_after or None
        assert session is not None
        self._start_command()
        ending = False
        while True:
            if not ending and (self.stopped() or self._command_ended()):
                ending = True
                session.enable(False)
            began = now()
            session.poll()
            batch = self._decode(self._order.ready(None if ending else began))
            if left is not None and len(batch) >= left:
                del batch[left:]
                _log.info("Reached stop count (%d), terminating...", self.options.stop_after)
                ending = True
                session.enable(False)
            if left is not None:
                left -= len(batch)
            self.processed += len(batch)
            yield batch
            if ending:
                return
            if self._ledger is not None:
                self._ledger.watch()
            if self._garbage is not None:
                self._garbage.collect(quiet=not self._system.kprobes)
            if not batch:
                time.sleep(_IDLE)

    def _decode(self, raws: list[bytes]) -> list[Any]:
        decode, out = self._decoder.decode, []
        for raw in raws:
            try:
                out.append(decode(raw))
            except MalformedEvent as error:
                self._undecodable += 1
                self._first_undecodable = self._first_undecodable or str(error)
        return out

    def close(self) -> None:
        """End of the run: detach, tell what was lost, and give everything back. May be called at any point."""
        if self._command is not None and self._command.poll() is None:
            self._command.terminate()
        session, self._session = self._session, None
        if session is None:
            return
        try:
            _log.info("%d event(s) processed", self.processed)
            with progress("Detaching probes", len(self._planned)) as step:
                session.detach(step)
            if self._ledger is not None:
                self._ledger.summary()
            if self._undecodable:
                _log.warning("%d event(s) could not be decoded (first: %s)", self._undecodable, self._first_undecodable)
            if self._order.late:
                _log.debug("%d batch(es) came out of order", self._order.late)
        finally:
            session.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
