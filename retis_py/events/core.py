"""Core sections: those every event may have, whatever collectors are enabled.

Annotations are evaluated by msgspec at run time: this module keeps to what Python 3.9 can evaluate.
"""

from typing import ClassVar, Literal, Optional, Tuple, Union  # noqa: UP035

from retis_py.events.args import ArgsSection
from retis_py.events.section import I32, I64, U32, U64, Section, Style
from retis_py.events.visible import visible

__all__ = [
    "CommonSection",
    "KernelSection",
    "Machine",
    "ProbeSection",
    "RotationPolicy",
    "SkbId",
    "SplitFile",
    "StartupSection",
    "Task",
    "TimeSpec",
    "TrackingSection",
    "UserspaceSection",
]

#: how a kernel probe type prints
PROBE_TAGS = {"kprobe": "[k]", "kretprobe": "[kr]", "raw_tracepoint": "[tp]"}


class Task(Section):
    """The task a probe ran in. *pid* is the process, *tgid* the thread: upstream swaps the kernel's names."""

    #: the process, ``tgid`` in the kernel
    pid: I32
    #: the thread, ``pid`` in the kernel
    tgid: I32
    #: its name, up to 15 bytes
    comm: str

    def text(self, style: Style) -> str:
        if self.pid == self.tgid:
            return f"[{visible(self.comm)}] {self.tgid}"
        return f"[{visible(self.comm)}] {self.pid}/{self.tgid}"


class CommonSection(Section):
    """When and where an event happened. *timestamp* is CLOCK_MONOTONIC in ns, *smp_id* the CPU."""

    key: ClassVar[str] = "common"
    #: CLOCK_MONOTONIC, in ns; the startup event has what is between it and CLOCK_REALTIME
    timestamp: U64
    #: the CPU
    smp_id: Optional[U32] = None
    #: what that CPU was running
    task: Optional[Task] = None

    def text(self, style: Style) -> str:
        return self.text_at(str(self.timestamp), style)

    def text_at(self, time: str, style: Style) -> str:
        """The section with *time* in place of the monotonic nanoseconds."""
        text = time if self.smp_id is None else f"{time} ({self.smp_id})"
        return text if self.task is None else f"{text} {self.task.text(style)}"


class KernelSection(Section):
    """The kernel probe of an event: a function name, or ``group:name`` of a tracepoint."""

    key: ClassVar[str] = "kernel"
    #: the function, or ``group:name`` of the tracepoint
    symbol: str
    #: ``kprobe``, ``kretprobe``, ``raw_tracepoint``
    probe_type: str
    #: innermost first, ``symbol+0xOFF`` or ``0xADDR``
    stack_trace: Optional[Tuple[str, ...]] = None  # noqa: UP006

    def text(self, style: Style) -> str:
        return f"{PROBE_TAGS.get(self.probe_type, '[invalid]')} {visible(self.symbol)}"

    def stack_text(self, style: Style) -> str:
        """The stack trace: it prints below the header, not with the probe. '' without one."""
        if not self.stack_trace:
            return ""
        entries = map(visible, self.stack_trace)
        return "\n".join(entries) if style.multi_line else f"[{', '.join(entries)}]"


class UserspaceSection(Section):
    """The user space probe of an event. *symbol* is ``provider:name``, *ip* the address of the probe site."""

    key: ClassVar[str] = "userspace"
    #: ``usdt``
    probe_type: str
    #: ``provider:name``
    symbol: str
    #: address of the probe site
    ip: U64
    #: the program
    path: str
    #: the process; not swapped with the thread here, unlike in `Task`
    pid: I32
    #: the thread
    tid: I32

    def text(self, style: Style) -> str:
        _, slash, binary = self.path.rpartition("/")
        where = f" ({visible(binary)})" if slash else ""
        return f"[u] {visible(self.symbol)}{where}"


#: what tells probes apart
ProbeSection = Union[KernelSection, UserspaceSection]


class SkbId(Section):
    """What identifies a packet: its buffer, and when that was first seen."""

    #: skb->head when first seen
    orig_head: U64
    #: when the packet was first seen, in ns (CLOCK_MONOTONIC)
    timestamp: U64
    #: address of this sk_buff, which differs between clones
    skb: U64

    def tracking_id(self) -> int:
        """The id of the packet, the same in all its events."""
        return self.timestamp << 64 | self.orig_head

    def text(self, style: Style) -> str:
        return f"#{self.timestamp << 64 | self.orig_head:x} (skb {self.skb:x})"


class TrackingSection(Section):
    """Position of an event in the series of its packet; only ``sort`` writes it."""

    key: ClassVar[str] = "tracking"
    #: identity of the packet first seen in the series
    skb: SkbId
    #: index of the event in its series
    idx: U32

    def text(self, style: Style) -> str:
        return f"{self.skb.text(style)} n {self.idx}"


class TimeSpec(Section):
    """A time span: whole seconds, and nanoseconds in [0, 1e9)."""

    #: whole seconds
    sec: I64
    #: and nanoseconds
    nsec: I64

    def nanoseconds(self) -> int:
        return self.sec * 1_000_000_000 + self.nsec


class Machine(Section):
    """The machine events were collected on: ``uname -r``, ``-v`` and ``-m``."""

    #: ``uname -r``
    kernel_release: str
    #: ``uname -v``
    kernel_version: str
    #: ``uname -m``
    hardware_name: str


class RotationPolicy(Section):
    """When the next split file starts: *limit* is in bytes."""

    #: what is limited
    kind: Literal["size"]
    #: bytes of a file
    limit: U64


class SplitFile(Section):
    """Place of a file in a split collection, *id* counting from 0."""

    #: number of the file, from 0
    id: U32
    #: when the next one starts
    policy: RotationPolicy


class StartupSection(Section):
    """How events were collected: the first event of every file."""

    key: ClassVar[str] = "startup"
    #: names the version of the file's format, see `retis_py.events.version`
    retis_version: str
    #: arguments joined with one space, after profiles were applied
    cmdline: str
    #: CLOCK_REALTIME - CLOCK_MONOTONIC at start
    clock_monotonic_offset: TimeSpec
    #: where that was
    machine: Machine
    #: which file of a set this is
    split_file: Optional[SplitFile] = None

    def text(self, style: Style) -> str:
        machine = self.machine
        lines = [
            f"collected with Retis {visible(self.retis_version)}",
            f"on machine {visible(machine.kernel_release)} {visible(machine.kernel_version)}"
            f" {visible(machine.hardware_name)}",
        ]
        if self.split_file is not None:
            lines.append(f"file id {self.split_file.id}")
        lines.append(f"cmdline {visible(self.cmdline)}")
        return ("\n" if style.multi_line else " ").join(lines)


#: core sections in file order; those of collectors come before the last one
CORE_SECTIONS = (CommonSection, KernelSection, UserspaceSection, TrackingSection, ArgsSection, StartupSection)
