"""Probes that can be attached, and what collectors can read from each."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from retis_py.collectors import COLLECTORS
from retis_py.errors import ProbeError
from retis_py.kernel.btf import Parameter
from retis_py.kernel.probes import Probe
from retis_py.kernel.system import System
from retis_py.probe_spec import Spec, parse

__all__ = ["Found", "find_probes", "useful_types", "why_incomplete"]

#: a tracepoint whose group cannot be told: only tracefs knows it
_ANY_GROUP = "*"
_log = logging.getLogger(__name__)

class Found(NamedTuple):
    """A probe and its arguments that collectors can use."""

    #: ``kprobe:ip_rcv``, ``tp:skb:kfree_skb``
    name: str
    arguments: tuple[Parameter, ...]

    def line(self, width: int = 0) -> str:
        """The name, then the arguments as C declares them."""
        shown = (f"{p.type}{p.name}" if p.type.endswith("*") else f"{p.type} {p.name}" for p in self.arguments)
        return f"{self.name:<{width}}  {', '.join(text.rstrip() for text in shown)}"


def useful_types() -> frozenset[str]:
    """Argument types from which some collector can report."""
    return frozenset(kind for collector in COLLECTORS for kind in collector.reads)


def why_incomplete(system: System) -> str | None:
    """What a list of probes cannot be sure of, because tracefs cannot be read; None if it can."""
    doubts = []
    if system.tracefs.functions is None and system.kprobes:
        doubts.append("functions are listed from BTF, and some may refuse a probe")
    if system.tracefs.events is None:
        doubts.append("the group of a tracepoint is not known")
    if not doubts:
        return None
    return f"tracefs cannot be read (root can, unless the kernel is locked down): {'; '.join(doubts)}"


def _pattern(target: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in target.split("*")))


def _kernel_names(system: System, prefix: str = "") -> Iterator[str]:
    return (name[len(prefix) :] for name in system.symbols.table if name.startswith(prefix))


def _functions(spec: Spec, system: System) -> Collection[str]:
    names = system.tracefs.functions
    pattern = _pattern(spec.target)
    return sorted({name for name in (names or _kernel_names(system)) if pattern.fullmatch(name)})


def _tracepoints(spec: Spec, system: System) -> Collection[str]:
    if system.tracefs.events is not None:
        pattern = _pattern(spec.target)
        return sorted(name for name in system.tracefs.events if pattern.fullmatch(name))
    # without the groups, the pattern is tried on the part after the colon
    pattern = _pattern(spec.target.rpartition(":")[2])
    # the function that calls a tracepoint's probes: text, which kallsyms has without CONFIG_KALLSYMS_ALL too
    names = {name for name in _kernel_names(system, "__traceiter_") if pattern.fullmatch(name)}
    return sorted(f"{_ANY_GROUP}:{name}" for name in names)


def _search(spec: Spec, system: System, known: frozenset[str]) -> list[Found]:
    out = []
    if spec.type == "raw_tracepoint":
        names = _tracepoints(spec, system)
        found = {name: system.types.tracepoint(name.rpartition(":")[2]) or [] for name in names}
    else:
        found, _ = system.functions(_functions(spec, system), known)
    for name, parameters in found.items():
        probe = Probe(spec.type, name, tuple(parameters))
        arguments = tuple(parameter for parameter in probe.parameters[: probe.visible] if parameter.type in known)
        if arguments:
            out.append(Found(probe.name, arguments))
    return out


def find_probes(pattern: str, system: System) -> list[Found]:
    """Probes matching *pattern*, sorted by name; one without a type means functions and tracepoints.

    Raises ProbeError if there is none.
    """
    known = useful_types()
    specs = [parse(text) for text in ([pattern] if ":" in pattern else [f"kprobe:{pattern}", f"tp:*:{pattern}"])]
    functions = [spec for spec in specs if spec.type != "raw_tracepoint"]
    if functions and not system.kprobes:
        if len(specs) == 1:
            raise ProbeError(
                f"{pattern}: this kernel has no kprobes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS)",
                hint="tracepoints work: retis inspect -p 'tp:*'",
            )
        _log.warning("this kernel has no kprobes: functions are left out")
        specs.remove(functions[0])
    found = [probe for spec in specs for probe in _search(spec, system, known)]
    if not found:
        raise ProbeError(
            f"Could not find a probe matching '{pattern}' that collectors can use",
            hint="patterns may hold '*': retis inspect -p '*_rcv'; what belongs to a module is there once it is loaded",
        )
    return sorted(found)
