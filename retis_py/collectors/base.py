"""Collector: what a collector's module says of itself.  BPF side: bpf/collectors/<name>.bpf.c

A collector module holds, in this order: raw layouts, section types with their text, the collector. Nothing here
or in a collector module may import from `retis_py.kernel`, `retis_py.process` or `retis_py.cli`: the kernel is
handed in, as a `Kernel`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from retis_py.errors import RetisError
from retis_py.events.raw import Raw

__all__ = ["Collector", "Kernel", "Unavailable"]


class Unavailable(RetisError):
    """A collector cannot run here; the message is the reason. Fatal only if the collector was asked for."""


class Kernel(Protocol):
    """What a collector may ask of the running kernel (`retis_py.kernel.system.System`)."""

    @property
    def types(self) -> Any:
        """`retis_py.kernel.types.KernelTypes`"""

    def config(self, option: str) -> str | None:
        """Value of a CONFIG_ option, None if not known."""

    def module_loaded(self, name: str) -> bool:
        """Is kernel module *name* loaded?"""

    @property
    def kprobes(self) -> bool:
        """Can functions be probed?"""

    def has_symbol(self, name: str) -> bool:
        """Does the kernel have a function called *name*?"""

    def cpus(self) -> int:
        """How many CPUs the kernel is prepared for."""

    def release(self) -> tuple[int, int]:
        """Version and patch level: for messages, never to decide what a structure looks like."""


class Collector:
    """One source of sections. Subclasses are listed, in hook order, in `retis_py.collectors.COLLECTORS`.

    An instance lives for one run: `check`, then `setup`, then everything else.
    """

    #: name on the command line
    name: ClassVar[str]
    #: section types it can fill: `Section` classes, or a Union of those that share a key
    sections: ClassVar[tuple[Any, ...]] = ()
    #: event section -> raw parts that fill it, in the order the hook adds them
    layouts: ClassVar[Mapping[str, Mapping[str, type[Raw]]]] = {}
    #: parameter types it can use: a probe with none of those of the enabled collectors is useless
    reads: ClassVar[tuple[str, ...]] = ()
    #: kernel struct -> members its BPF side reads, as dotted paths; what spans those of sk_buff is copied at once and
    #: found in scratch.skb
    members: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: names of its hooks, hook_<name>() in C; one that ends the event with a tail of bytes comes after all others
    hooks: ClassVar[tuple[str, ...]] = ()
    tail_hook: ClassVar[str] = ""
    #: context member -> parameter types: where a probed function has a parameter of one of them, its program sets
    #: that member of struct context (u64) to it; elsewhere it is 0
    arguments: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: probe -> names of hooks that only its program runs, before the collector's others; one that does not return 0
    #: drops the whole event
    targeted: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: probe -> C function that completes its context before filtering and tracking, e.g. with an sk_buff that is no
    #: parameter; the hit is left alone if it does not return 0
    contexts: ClassVar[Mapping[str, str]] = {}
    #: probe -> C functions that are given the context of each of its hits that matters, whether or not events of it are
    #: wanted: the probe is attached for them. One that cannot be attached is done without
    observers: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: USDT probe, as ``provider:name`` -> its hook, user_hook_<name>() in C, and the indices of the arguments it reads
    user_probes: ClassVar[Mapping[str, tuple[str, tuple[int, ...]]]] = {}
    #: what to do about a process without them
    no_user_probes: ClassVar[str] = ""

    def __init__(self) -> None:
        self._defines: dict[str, int] = {}

    def check(self, kernel: Kernel) -> None:
        """Can it run here? Raises Unavailable with the reason."""

    def setup(self, kernel: Kernel, options: Mapping[str, Any]) -> None:
        """Read what it needs of the kernel and of the command line's *options*. Failing is fatal, unless it is
        Unavailable because of an option."""

    def probes(self) -> Iterable[str]:
        """Probes it needs, as on the command line."""
        return ()

    def process(self) -> int | None:
        """The process whose `user_probes` it wants, if any."""
        return None

    def start(self) -> None:
        """Change what has to be changed on the system; called before anything is attached."""

    def stop(self) -> None:
        """Undo `start`; called on every way out, also if `start` was not or failed."""

    def events(self) -> Sequence[tuple[int, Mapping[str, Any]]]:
        """Events that no probe reports, made since the last call: time in ns (CLOCK_MONOTONIC), and sections by key."""
        return ()

    def defines(self) -> Mapping[str, int]:
        """Macros its BPF side wants: kernel differences and options, decided before the text is compiled."""
        return self._defines

    def maker(self, section: str, parts: tuple[str, ...]) -> Callable[..., Any]:
        """The function that builds *section* from the values of the raw *parts*, in order; it returns the section,
        or None to leave it out. Called once per combination of parts, not per event."""
        raise NotImplementedError
