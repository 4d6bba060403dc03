"""Session: the BPF programs of a run, compiled, loaded, attached and read. The only module that imports bcc.

BCC compiles the text once and creates the maps; each program is then loaded once per probe from its compiled form
with the probe's index set in it (see `retis_py.kernel.code.PROBE_ID`), so that a probe costs neither a compilation
nor, per hit, a lookup of who it is.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from retis_py.errors import KernelError, ProbeError
from retis_py.kernel import bpf
from retis_py.kernel.code import VALUES, mark_kernel_calls, point_at_values, set_probe_id
from retis_py.kernel.cpus import Cpus
from retis_py.kernel.perf import PerfBuffers, attach_kprobe
from retis_py.paths import bpf_dir

if TYPE_CHECKING:
    from retis_py.kernel.usdt import UserProcess

__all__ = ["Function", "Missed", "Session", "load_bcc"]

_log = logging.getLogger(__name__)

#: compiler flags: kernels built with -fms-extensions (6.19 and later) print anonymous members of a named struct,
#: which clang drops without it
CFLAGS = [
    "-fms-extensions",
    # a long meta filter is one condition in many brackets
    "-fbracket-depth=4096",
    "-Wno-microsoft-anon-tag",
    "-Wno-unused-label",
    "-Wno-unused-value",
    "-Wno-unused-function",
]


def load_bcc() -> Any:
    """The module bcc."""
    try:
        import bcc
    except ImportError as error:
        raise KernelError(
            f"cannot load BPF: python module 'bcc' is not usable: {error}",
            hint="install your distribution's package (Debian/Ubuntu: python3-bpfcc, Fedora: python3-bcc); pip "
            "cannot provide it, and a virtual environment must be made with --system-site-packages",
        ) from None
    return bcc


class Function(NamedTuple):
    """One of many functions with one program: its *probe* number, and where its arguments are (`Shape.positions`)."""

    probe: int
    symbol: str
    address: int
    positions: tuple[int, int, int, int]


class Missed(NamedTuple):
    """Hits of a *probe*, by number (None: of probes that share a program), that the kernel did not hand to its program:
    *running* if a program, for kprobes any, was running on that CPU; else see `bpf.link_misses`."""

    probe: int | None
    running: bool
    hits: int


class Session:
    """The BPF side of one run. *on_event(raw)* is called with the bytes of each event, from `poll`; *blame* ends the
    message that a program is too complex."""

    def __init__(self, text: str, on_event: Callable[[bytes], None], pages: int, blame: str = "") -> None:
        self._blame = blame
        os.environ["BCC_KERNEL_SOURCE"] = str(bpf_dir() / "stubs")
        self._bcc = load_bcc()
        self._lib = self._bcc.lib
        try:
            self._bpf = self._bcc.BPF(text=text.encode(), cflags=CFLAGS)
        except Exception as error:
            raise KernelError(
                f"cannot compile the BPF programs: {error}",
                hint="the compiler's messages are above; please report them with `retis collect --show-bpf`",
            ) from None
        #: what closing detaches -> number of the probe, None of what serves many
        self._links: dict[int, int | None] = {}
        #: file descriptors -> number of the probe, None of a program that serves many
        self._programs: dict[int, int | None] = {}
        #: `bpf.recursion_misses` of each program and `bpf.link_misses` of each link when they were enabled
        self._misses: dict[int, int] = {}
        self._missed: list[Missed] = []
        self._shared: dict[tuple[str, int], int] = {}
        #: `_compiled`, by function: each of its probes loads a copy
        self._code: dict[str, bytes] = {}
        self._enabled = self._collected = 0
        self._buffers = self._open_buffers(on_event, pages)
        #: what the programs tell of each CPU
        self.cpus = Cpus(self._bpf[b"cpus"])

    def _open_buffers(self, on_event: Callable[[bytes], None], pages: int) -> PerfBuffers:
        buffers = PerfBuffers(pages, on_event)
        table = self._bpf[b"events"]
        for cpu, buffer in buffers.buffers.items():
            table[table.Key(cpu)] = table.Leaf(buffer.fd)
        return buffers

    def _compiled(self, function: str) -> bytes:
        """The code of *function*, in which only the probe's index is still to be set."""
        lib, name = self._lib, function.encode()
        start = lib.bpf_function_start(self._bpf.module, name)
        if not start:
            raise KernelError(f"program {function} is not in the compiled text")
        code = bytearray(ctypes.string_at(start, lib.bpf_function_size(self._bpf.module, name)))
        mark_kernel_calls(code)
        point_at_values(code, {mark: self._bpf[table.encode()].map_fd for table, mark in VALUES.items()})
        return bytes(code)

    def _load(self, function: str, probe: int | None, kind: int, attach_type: int = 0) -> int:
        """Load a copy of *function* that is probe number *probe*; None: it finds that out."""
        if function not in self._code:
            self._code[function] = self._compiled(function)
        code = bytearray(self._code[function])
        if probe is not None:
            set_probe_id(code, probe)
        try:
            fd = bpf.load_program(kind, function, bytes(code), attach_type)
        except bpf.BpfError as error:
            raise _load_error(function, len(code) // 8, error.errno or 0, error.log, self._blame) from None
        self._programs[fd] = probe
        return fd

    def _load_once(self, function: str, attach_type: int = 0) -> int:
        """Load *function*, which serves many probes, if it is not yet."""
        key = function, attach_type
        if key not in self._shared:
            self._shared[key] = self._load(function, None, bpf.KPROBE, attach_type)
        return self._shared[key]

    def attach_kprobe(self, function: str, probe: int, symbol: str, at_return: bool = False) -> None:
        """Attach *function*, as probe number *probe*, to the entry (or return) of kernel function *symbol*."""
        self._attach_kprobe(self._load(function, probe, bpf.KPROBE), probe, symbol, at_return)

    def _attach_kprobe(self, program: int, probe: int, symbol: str, at_return: bool = False) -> None:
        try:
            self._links[attach_kprobe(program, symbol, at_return)] = probe
        except OSError as error:
            raise _attach_error("kretprobe" if at_return else "kprobe", symbol, error.errno or 0) from None

    def attach_kprobes(
        self, function: str, targets: Sequence[Function], multi: bool, step: Callable[[], None] = lambda: None
    ) -> list[str]:
        """Attach one program to many functions, with *multi* at once; returns the names of those that cannot be probed.
        *step()* is called for each function that had to be attached on its own."""
        table = self._bpf[b"functions"]
        for target in targets:
            table[table.Key(target.address)] = table.Leaf(target.probe, *target.positions)
        if multi:
            try:
                program = self._load_once(function, bpf.KPROBE_MULTI)
                refused = self._link_multi(program, list(targets))
                _log.debug("attached %s to %d functions at once", function, len(targets) - len(refused))
                return refused
            except (KernelError, bpf.BpfError) as error:
                _log.debug("no kprobe-multi here (%s): attaching one by one", error)
        program = self._load_once(function)
        _allow_files(len(targets))
        refused = []
        for target in targets:
            try:
                self._attach_kprobe(program, target.probe, target.symbol)
            except ProbeError as error:
                _log.debug("%s", error)
                refused.append(target.symbol)
            step()
        return refused

    def _link_multi(self, program: int, targets: list[Function]) -> list[str]:
        """Link *targets* at once; where the kernel refuses, halves of them, down to the ones it means."""
        try:
            self._links[bpf.link_kprobe_multi(program, [target.address for target in targets])] = None
            return []
        except bpf.BpfError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EPERM):
                raise
            if len(targets) == 1:
                return [targets[0].symbol]
        half = len(targets) // 2
        return self._link_multi(program, targets[:half]) + self._link_multi(program, targets[half:])

    def attach_raw_tracepoint(self, function: str, probe: int, name: str) -> None:
        """Attach *function*, as probe number *probe*, to tracepoint *name* (without its group)."""
        fd = self._load(function, probe, bpf.RAW_TRACEPOINT)
        link = self._lib.bpf_attach_raw_tracepoint(fd, name.encode())
        if link < 0:
            raise _attach_error("tracepoint", name, ctypes.get_errno())
        self._links[link] = probe

    def attach_usdt(self, function: str, probe: int, process: UserProcess) -> None:
        """Attach *function*, as probe number *probe*, wherever *process* has the USDT probe it was enabled for."""
        program = self._load(function, probe, bpf.KPROBE)
        name = function.encode()
        self._bpf.funcs[name] = self._bcc.BPF.Function(self._bpf, name, program)  # the one attach_uprobe() then takes
        for path, address in process.places(function):
            try:
                self._bpf.attach_uprobe(name=path, addr=address, fn_name=name, pid=process.pid)
            except Exception as error:
                raise KernelError(f"cannot attach to {path.decode()} at {address:#x}: {error}") from None
        # ours from now on: BCC would look for the attachments in tracefs, where they are not, and close the program too
        self._links.update(dict.fromkeys(self._bpf.uprobe_fds.values(), probe))
        self._bpf.uprobe_fds.clear()
        del self._bpf.funcs[name]

    def enable(self) -> None:
        """Let the programs work, all at once."""
        self._misses = {fd: bpf.recursion_misses(fd) for fd in self._programs}
        self._misses.update((fd, bpf.link_misses(fd)) for fd in self._links)
        self._enabled = 1
        self._write_settings()

    def stop(self) -> None:
        """No hits from now on. Waits for those under way, a second at most: their thread may have to wait for a CPU."""
        self._enabled = 0
        self._write_settings()
        deadline = time.monotonic() + 1
        while self.cpus.under_way() is not None and time.monotonic() < deadline:
            time.sleep(0.001)

    def missed(self) -> list[Missed]:
        """Hits that no program looked at since `enable`. Kernels before v6.7 do not count those of kprobes."""
        if self._programs:
            before = self._misses
            programs = (Missed(p, True, bpf.recursion_misses(f) - before.get(f, 0)) for f, p in self._programs.items())
            links = (Missed(p, False, bpf.link_misses(f) - before.get(f, 0)) for f, p in self._links.items())
            self._missed = [missed for missed in (*programs, *links) if missed.hits]
        return self._missed

    def count_collected(self) -> None:
        """Tell the programs that an entry of the tracking map was deleted from here."""
        self._collected += 1
        self._write_settings()

    def _write_settings(self) -> None:
        table = self._bpf[b"settings"]
        table[table.Key(0)] = table.Leaf(self._enabled, self._collected & 0xFFFF_FFFF)

    def poll(self) -> None:
        """Hand over what is in the buffers now; does not wait."""
        self._buffers.poll()

    def losses(self) -> Iterator[tuple[int, int, int]]:
        """(index in `losses`, CPU, count) where the count is not 0."""
        table = self._bpf[b"losses"]
        for index in range(len(table)):
            for cpu, count in enumerate(table[table.Key(index)]):
                if count:
                    yield index, cpu, count

    def table(self, name: str) -> Any:
        """A BCC map object."""
        return self._bpf[name.encode()]

    def stack(self, stack_id: int) -> list[int]:
        """Addresses of a stack trace, innermost first; empty if the map has lost it."""
        return list(self._bpf[b"stacks"].walk(stack_id)) if stack_id >= 0 else []

    def detach(self, step: Callable[[], None] = lambda: None) -> None:
        """Take all probes away; *step()* is called after each."""
        self.missed()  # the last chance to ask
        for link in self._links:
            os.close(link)
            step()
        self._links.clear()
        for program in self._programs:
            os.close(program)
        self._programs.clear()
        self._shared.clear()

    def close(self) -> None:
        """Detach, and give back buffers, maps and memory."""
        self.detach()
        self.cpus.close()
        self._buffers.close()
        self._bpf.cleanup()


def _allow_files(count: int) -> None:
    """Let this process have *count* more files open: each function attached on its own is one."""
    wanted = count + 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        # with CAP_SYS_RESOURCE the hard limit is none
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))


def _load_error(function: str, instructions: int, number: int, log: str, blame: str) -> KernelError:
    """*blame* says what makes programs as large as they are."""
    _log.debug("verifier log of %s:\n%s", function, log)
    if number == errno.E2BIG or "too complex" in log or "program is too large" in log:
        return KernelError(
            f"BPF program {function} ({instructions} instructions) is too complex for this kernel{blame}",
            hint="a simpler filter or fewer collectors may pass; --log-level debug shows what the verifier said",
        )
    if number == errno.EPERM:
        return KernelError(
            f"cannot load BPF program {function}: not permitted",
            hint="run as root; a locked-down kernel (/sys/kernel/security/lockdown) may refuse it all the same",
        )
    said = [line for line in log.strip().splitlines() if not line.startswith(("processed ", "verification time"))]
    last = said[-1].strip() if said else os.strerror(number)
    return KernelError(
        f"the kernel refused BPF program {function} ({instructions} instructions): {last}",
        hint="--log-level debug shows the whole verifier log; a simpler filter or fewer collectors may pass",
    )


def _attach_error(kind: str, symbol: str, number: int) -> ProbeError:
    reasons = {
        errno.ENOENT: "no such symbol",
        errno.EINVAL: "cannot be probed",
        errno.EADDRNOTAVAIL: "there are several of that name",
    }
    reason = reasons.get(number, os.strerror(number))
    return ProbeError(f"cannot attach {kind} {symbol}: {reason}", hint="see retis collect --help for probe syntax")
