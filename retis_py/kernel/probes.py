"""Probes: what ``-p`` says, and which functions and tracepoints that is on this kernel."""

from __future__ import annotations

import difflib
import logging
import platform
import re
from collections.abc import Collection
from typing import NamedTuple

from retis_py.errors import ProbeError
from retis_py.kernel.btf import Parameter
from retis_py.kernel.system import System
from retis_py.probe_spec import Spec, parse

__all__ = ["Probe", "Spec", "parse", "resolve", "resolve_useful"]

_log = logging.getLogger(__name__)

#: from this many names on, all functions of the kernel are indexed first
_MANY = 20
#: registers for arguments that PT_REGS_PARMn() of BCC knows
_ARGUMENT_REGISTERS = 6 if platform.machine() in ("x86_64", "aarch64", "riscv64", "ppc64le") else 5
#: probe type -> how its names begin
_SHORT = {"kprobe": "kprobe", "kretprobe": "kretprobe", "raw_tracepoint": "tp", "usdt": "usdt"}


class Probe(NamedTuple):
    """A probe that can be attached."""

    type: str
    #: function, or ``group:name``
    symbol: str
    parameters: tuple[Parameter, ...]
    options: frozenset[str] = frozenset()
    #: it was not named but found: it may turn out that it cannot be attached
    by_pattern: bool = False

    @property
    def name(self) -> str:
        """``kprobe:ip_rcv``, ``tp:skb:kfree_skb``"""
        return f"{_SHORT[self.type]}:{self.symbol}"

    @property
    def visible(self) -> int:
        """How many of its parameters a program can get at: those of functions that are passed in registers, and of
        raw tracepoints as many as there can be (MAX_BPF_FUNC_ARGS, include/linux/bpf.h)."""
        return 12 if self.type == "raw_tracepoint" else _ARGUMENT_REGISTERS

    @property
    def attach_name(self) -> str:
        """What the kernel is told: a tracepoint's group is not part of it."""
        return self.symbol.rpartition(":")[2]

    def position(self, *types: str) -> int:
        """Index of the first parameter of one of *types*, -1 if there is none."""
        return next((i for i, parameter in enumerate(self.parameters) if parameter.type in types), -1)


def _matching(target: str, names: Collection[str]) -> list[str]:
    if "*" not in target:
        return [target] if target in names else []
    pattern = re.compile(".*".join(re.escape(part) for part in target.split("*")))
    return sorted(name for name in names if pattern.fullmatch(name))


def _candidates(spec: Spec, system: System) -> list[str]:
    """Names that *spec* may mean, by what tracefs lists; what it cannot say is left to BTF."""
    tracepoint = spec.type == "raw_tracepoint"
    names = system.tracefs.events if tracepoint else system.tracefs.functions
    if names is not None:
        return _matching(spec.target, names)
    if "*" in spec.target:
        what = "events" if tracepoint else "functions"
        raise ProbeError(
            f"Could not get matching {what} as Retis can't access files in tracefs",
            hint="mount it (mount -t tracefs tracefs /sys/kernel/tracing) or name the probes without '*'",
        )
    if tracepoint and (spec.target.count(":") != 1 or not all(spec.target.split(":"))):
        return []
    return [spec.target]


def _suggest(spec: Spec, system: System) -> str | None:
    names = system.tracefs.events if spec.type == "raw_tracepoint" else system.tracefs.functions
    close = difflib.get_close_matches(spec.target, list(names or ()), n=1, cutoff=0.8)
    if close:
        return f"did you mean {close[0]}?"
    return "what belongs to a module exists only while that is loaded (modprobe it first)"


def resolve(spec: Spec, system: System) -> list[Probe]:
    """All probes *spec* means on this kernel; raises ProbeError if there is none."""
    return resolve_useful(spec, system, None, ())[0]


def resolve_useful(
    spec: Spec, system: System, types: Collection[str] | None, names: Collection[str]
) -> tuple[list[Probe], int]:
    """The same, and how many there are in all: where *spec* means many functions, those are left out that have neither
    an argument of one of *types* nor one of *names*."""
    if spec.type != "raw_tracepoint" and not system.kprobes:
        raise ProbeError(
            f"probe {spec.text}: this kernel has no kprobes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS)",
            hint="tracepoints work (-p tp:group:name); `make demo` shows all probe types in a VM",
        )
    candidates = _candidates(spec, system)
    parameters: dict[str, list[Parameter]] = {}
    if spec.type != "raw_tracepoint" and len(candidates) > _MANY:
        named = set(candidates).intersection(names)
        parameters, known = system.functions((name for name in candidates if name not in named), types)
        also, more = system.functions(named)
        parameters, known = {**parameters, **also}, known + more
    else:
        for name in candidates:
            if spec.type == "raw_tracepoint":
                those = system.types.tracepoint(name.rpartition(":")[2])
            else:
                those = system.function(name)
            if those is not None:
                parameters[name] = those
        known = len(parameters)
    by_pattern = "*" in spec.target
    found = [Probe(spec.type, name, tuple(those), spec.options, by_pattern) for name, those in parameters.items()]
    if not known:
        what = "tracepoint" if spec.type == "raw_tracepoint" else "traceable function"
        raise ProbeError(f"Could not find a {what} matching '{spec.target}'", hint=_suggest(spec, system))
    return found, known
