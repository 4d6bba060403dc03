"""One page on this system: what collecting needs of it, what it has, and what to do about the rest."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import mmap
import os
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from retis_py.collectors import COLLECTORS
from retis_py.collectors.base import Unavailable
from retis_py.errors import RetisError
from retis_py.kernel import features
from retis_py.kernel.direct import try_direct_reads
from retis_py.kernel.system import System

__all__ = ["Answer", "collectors", "render", "system_report"]

#: include/uapi/linux/capability.h
_CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39, "CAP_SYSLOG": 34}
_LOCKDOWN = Path("/sys/kernel/security/lockdown")
_KPTR = Path("/proc/sys/kernel/kptr_restrict")
#: columns below which details go under what they are about
_NARROW = 60
_WORDS = {True: "yes", False: "no", None: "?"}


class Answer(NamedTuple):
    """One line of the report. *there* is None where it cannot be told."""

    what: str
    there: bool | None
    detail: str
    #: what to do if it is not there
    advice: str = ""


def _not_known(error: Exception) -> str:
    """*error* in words: that of the system has a number and brackets of its own."""
    if isinstance(error, OSError) and error.errno:
        return f"{error.filename}: {os.strerror(error.errno)}" if error.filename else os.strerror(error.errno)
    return str(error)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _kernel(system: System) -> Answer:
    machine = os.uname()
    config = system.config("CONFIG_BPF_SYSCALL")
    known = {"y": "configuration known", None: "configuration not found (see --kconf)"}
    return Answer(
        "kernel",
        config != "n",
        f"{machine.release} {machine.machine}, {known.get(config, 'built without the bpf system call')}",
        "boot a kernel with CONFIG_BPF_SYSCALL=y",
    )


def _btf(system: System) -> Answer:
    try:
        modules = len(system.types.modules())
    except (RetisError, OSError) as error:
        return Answer("BTF", False, _not_known(error), "boot a kernel with CONFIG_DEBUG_INFO_BTF=y")
    return Answer("BTF", True, f"vmlinux and {modules} module(s)")


def _kprobes(system: System) -> Answer:
    if system.kprobes:
        return Answer("kprobes", True, "functions can be probed")
    return Answer(
        "kprobes",
        False,
        "collect works from tracepoints alone",
        "boot a kernel with CONFIG_KPROBES=y and CONFIG_KPROBE_EVENTS=y to probe functions, for nft and for all of ovs",
    )


def _kprobe_multi(system: System) -> Answer:
    there = features.kprobe_multi(system.types.vmlinux)
    if not system.kprobes:
        return Answer("kprobe-multi", False, "functions cannot be probed here at all", "see kprobes")
    if there:
        return Answer("kprobe-multi", True, "hundreds of functions attach at once")
    return Answer(
        "kprobe-multi",
        False,
        "functions attach one by one, which takes a while for hundreds of them",
        "nothing needs it; kernels have it from 5.18 on with CONFIG_FPROBE=y",
    )


def _direct_reads(system: System) -> Answer:
    try:
        there = try_direct_reads(system.types.vmlinux)["DIRECT_READS"] == 1
    except OSError as error:
        if error.errno == errno.EPERM:
            return Answer("direct-reads", None, "not known: tried by loading a BPF program, which needs root")
        there = False
    if there:
        return Answer("direct-reads", True, "programs read kernel memory without calling helpers")
    return Answer(
        "direct-reads",
        False,
        "programs read kernel memory through helpers: a hit costs more",
        "nothing needs it; kernels have it from 6.2 on, with sysctl net.core.bpf_jit_enable=1",
    )


def _lockdown(_system: System) -> Answer:
    if not os.path.exists(_LOCKDOWN):
        return Answer("lockdown", None, f"not known: {_LOCKDOWN} is not there (securityfs not mounted, or no such LSM)")
    mode = features.lockdown()
    details = {
        "none": "none: nothing is refused",
        "integrity": "integrity: the list of functions is hidden, name probes without '*'",
        "confidentiality": "confidentiality: BPF programs may not read memory",
    }
    there = mode != "confidentiality"
    return Answer("lockdown", there, details.get(mode, mode), "boot without lockdown=confidentiality")


def _tracefs(system: System) -> Answer:
    functions, events = system.tracefs.functions, system.tracefs.events
    if functions is None and events is None:
        advice = "mount -t tracefs tracefs /sys/kernel/tracing; until then name probes without '*'"
        if os.geteuid() != 0:
            return Answer("tracefs", None, "not known: it can be read by root only", advice)
        return Answer("tracefs", False, "not mounted, or hidden by lockdown: probes cannot be given with '*'", advice)
    lists = ((functions, "functions"), (events, "events"))
    found = [f"{len(names)} {what}" for names, what in lists if names is not None]
    if functions is None:
        listed = "functions are not listed: name those without '*'"
        why = listed if system.kprobes else "functions cannot be probed here"
        advice = "needs CONFIG_FUNCTION_TRACER=y and no lockdown=integrity"
        # a list nobody could use is not missing
        return Answer("tracefs", not system.kprobes, f"{found[0]}; {why}", advice)
    if events is None:
        why = "tracepoints are not listed: name those without '*'"
        return Answer("tracefs", False, f"{found[0]}; {why}", "needs CONFIG_EVENT_TRACING=y and no lockdown=integrity")
    return Answer("tracefs", True, ", ".join(found))


def _capabilities(_system: System) -> Answer:
    lines = (_text(Path("/proc/self/status")) or "").splitlines()
    held = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    missing = [name for name, bit in _CAPABILITIES.items() if not held >> bit & 1]
    if os.stat("/proc").st_uid != 0:
        return Answer("capabilities", False, "this is a user namespace", "run outside of it, as root")
    if missing:
        return Answer("capabilities", False, f"missing: {', '.join(missing)}", "run retis collect with sudo")
    return Answer("capabilities", True, ", ".join(_CAPABILITIES))


def _bcc(_system: System) -> Answer:
    if importlib.util.find_spec("bcc") is None:
        return Answer(
            "bcc",
            False,
            "the Python module is not there",
            "apt install python3-bpfcc, dnf install python3-bcc; a virtual environment needs --system-site-packages",
        )
    try:
        return Answer("bcc", True, importlib.metadata.version("bcc"))
    except importlib.metadata.PackageNotFoundError:
        return Answer("bcc", True, "version not known")


def _libbpf(_system: System) -> Answer:
    from retis_py.kernel.libbpf import library

    try:
        lib = library()
    except RetisError as error:
        return Answer("libbpf", False, str(error), error.hint or "")
    return Answer("libbpf", True, f"{lib.libbpf_major_version()}.{lib.libbpf_minor_version()}")


def _libpcap(_system: System) -> Answer:
    import ctypes

    from retis_py.filters.packet import _libpcap as load

    try:
        version = load().pcap_lib_version
    except RetisError as error:
        return Answer("libpcap", False, str(error), error.hint or "")
    version.restype = ctypes.c_char_p
    return Answer("libpcap", True, version().decode().replace("libpcap version ", ""))


def _program(name: str) -> str | None:
    """The first line that program *name* says of its version; None if it is not there."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        return None
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return path
    return (done.stdout.splitlines() or [path])[0]


def _nft(system: System) -> Answer:
    program = _program("nft")
    in_kernel = system.module_loaded("nf_tables") or system.config("CONFIG_NF_TABLES") == "y"
    if program and in_kernel:
        return Answer("nft", True, f"{program}; nf_tables is there")
    if not in_kernel:
        return Answer("nft", False, "nf_tables is not loaded: no rules, no verdicts", "modprobe nf_tables")
    return Answer("nft", False, "the program nft is not there", "apt or dnf install nftables")


def _daemon() -> str | None:
    """Process id of ovs-vswitchd."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _text(entry / "comm") == "ovs-vswitchd":
            return entry.name
    return None


def _has_usdt(program: Path) -> bool | None:
    """Whether *program* has USDT probes, which an ELF note of owner ``stapsdt`` describes; None if unreadable."""
    try:
        with program.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
            return content.find(b"stapsdt\0") >= 0
    except (OSError, ValueError):
        return None


def _ovs(system: System) -> Answer:
    in_kernel = system.module_loaded("openvswitch") or system.config("CONFIG_OPENVSWITCH") == "y"
    process = _daemon()
    if not in_kernel:
        return Answer("ovs", False, "openvswitch is not loaded", "modprobe openvswitch, if it has a bridge here")
    if process is None:
        return Answer("ovs", False, "openvswitch is loaded; ovs-vswitchd does not run", "start Open vSwitch")
    usdt = _has_usdt(Path("/proc", process, "exe"))
    said = {True: "has USDT probes", False: "was built without USDT probes", None: "cannot be looked into: not root"}
    advice = "--ovs-track needs an Open vSwitch configured with --enable-usdt-probes" if usdt is False else ""
    return Answer("ovs", usdt, f"openvswitch is loaded; ovs-vswitchd {said[usdt]}", advice)


_ANSWERS: tuple[Callable[[System], Answer], ...] = (
    *(_kernel, _btf, _kprobes, _kprobe_multi, _direct_reads, _lockdown, _tracefs, _capabilities),
    *(_bcc, _libbpf, _libpcap, _nft, _ovs),
)


def system_report(system: System) -> Iterator[Answer]:
    """What collecting needs, in the order it needs it."""
    for ask in _ANSWERS:
        try:
            yield ask(system)
        except (RetisError, OSError) as error:
            yield Answer(ask.__name__.strip("_").replace("_", "-"), None, f"not known: {_not_known(error)}")


def collectors(system: System) -> Iterator[Answer]:
    """Which collectors can run here, and why the others cannot."""
    for kind in COLLECTORS:
        if not kind.layouts:
            yield Answer(kind.name, False, "reads events of files only, so far")
            continue
        try:
            kind().check(system)
        except Unavailable as reason:
            yield Answer(kind.name, False, str(reason), reason.hint or "")
        except (RetisError, OSError) as error:
            yield Answer(kind.name, None, f"not known: {_not_known(error)}")
        else:
            yield Answer(kind.name, True, (kind.__doc__ or "").split("\n")[0].rstrip(".").replace("`", ""))


def render(answers: Iterator[Answer], columns: int = 80) -> str:
    """The answers as a table of *columns*; what to do about a "no" is below it."""
    lines = []
    for answer in answers:
        head = f"  {answer.what:<14} {_WORDS[answer.there]:<4} "
        margin = " " * (len(head) if columns >= _NARROW else 6)
        rest = [answer.detail]
        if answer.there is not True and answer.advice:
            rest.append(f"-> {answer.advice}")
        width = columns - len(margin)
        pieces = [
            line for text in rest for line in textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
        ]
        if columns >= _NARROW:
            lines.append(head + pieces.pop(0))
        else:
            lines.append(head.rstrip())
        lines += [margin + piece for piece in pieces]
    return "\n".join(lines)
