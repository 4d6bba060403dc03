"""System: all that is known of the running kernel, each thing read when first asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path

from retis_py.kernel.btf import Btf, Parameter
from retis_py.kernel.config import KernelConfig
from retis_py.kernel.cpus import possible_cpus
from retis_py.kernel.features import has_kprobes, kprobe_multi
from retis_py.kernel.symbols import Symbols, Tracefs
from retis_py.kernel.types import KernelTypes

__all__ = ["System"]


class System:
    """The running kernel. *kconf* names a kernel configuration file to use in place of the usual ones."""

    def __init__(self, kconf: Path | None = None) -> None:
        self._kconf = kconf
        self.symbols = Symbols()
        self.tracefs = Tracefs()
        if kconf is not None:
            self._config  # noqa: B018 - a file that was named must be readable, whether or not it is needed

    @cached_property
    def types(self) -> KernelTypes:
        """BTF of the kernel and its modules."""
        return KernelTypes()

    @cached_property
    def _config(self) -> KernelConfig:
        return KernelConfig(self._kconf)

    def config(self, option: str) -> str | None:
        """Value of a CONFIG_ option, None if not known."""
        return self._config.get(option)

    @cached_property
    def kprobes(self) -> bool:
        """Can functions be probed? Otherwise there are raw tracepoints only: reduced mode."""
        return has_kprobes()

    @cached_property
    def kprobe_multi(self) -> bool:
        """Can a program be attached to many functions at once?"""
        return kprobe_multi(self.types.vmlinux)

    @cached_property
    def _modules(self) -> frozenset[str]:
        try:
            return frozenset(line.split(" ", 1)[0] for line in Path("/proc/modules").read_text().splitlines())
        except OSError:
            return frozenset()

    def module_loaded(self, name: str) -> bool:
        """Is kernel module *name* loaded?"""
        return name in self._modules

    def has_symbol(self, name: str) -> bool:
        """Does the kernel have a function called *name*?"""
        return self.function(name) is not None

    def function(self, name: str) -> list[Parameter] | None:
        """Parameters of a function of the kernel or of a loaded module, None if there is none of that name."""
        found = self.types.vmlinux.function(name)
        if found is not None:
            return found
        symbol = self.symbols.find(name)
        return self.types.function(name, symbol[1]) if symbol and symbol[1] else None

    def functions(
        self, names: Iterable[str], types: Collection[str] | None = None
    ) -> tuple[dict[str, list[Parameter]], int]:
        """The same for many: parameters by name, and how many of *names* are known; with *types* only of those that
        have a parameter of one of these."""
        vmlinux = self.types.vmlinux
        taking: dict[Btf, set[str]] = {}
        out, known = {}, 0
        for name in names:
            btf: Btf | None = vmlinux
            if name not in vmlinux.functions.ids:
                _, module = self.symbols.table.get(name, (0, None))
                btf = self.types.module(module) if module else None
            if btf is None or name not in btf.functions.ids:
                continue
            known += 1
            if types is not None:
                if btf not in taking:
                    taking[btf] = btf.taking(types)
                if name not in taking[btf]:
                    continue
            parameters = btf.function(name)
            if parameters is not None:
                out[name] = parameters
        return out, known

    def function_types(self, name: str) -> Btf | None:
        """The BTF, vmlinux's or a module's, that has function *name*."""
        if self.types.vmlinux.function(name) is not None:
            return self.types.vmlinux
        symbol = self.symbols.find(name)
        return self.types.module(symbol[1]) if symbol and symbol[1] else None

    def cpus(self) -> int:
        """How many CPUs the kernel is prepared for."""
        return possible_cpus()

    def release(self) -> tuple[int, int]:
        """Version and patch level of the kernel: for messages only."""
        match = re.match(r"(\d+)\.(\d+)", os.uname().release)
        return (int(match[1]), int(match[2])) if match else (0, 0)
