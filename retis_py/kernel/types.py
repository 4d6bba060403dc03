"""Types of the running kernel: vmlinux and its modules, which are looked through in that order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from retis_py.errors import KernelError
from retis_py.kernel.btf import Btf, Kind, Parameter
from retis_py.kernel.btf_names import Names

__all__ = ["KernelTypes"]

BTF_DIR = Path("/sys/kernel/btf")


class KernelTypes:
    """vmlinux and its modules; what is asked for is searched in vmlinux first, then in the named module."""

    def __init__(self, directory: Path = BTF_DIR) -> None:
        self.directory = directory
        # os.path: until Python 3.12 Path.exists() raises where a directory may not be entered
        if not os.path.exists(directory / "vmlinux"):
            raise KernelError(
                f"this kernel has no BTF ({directory}/vmlinux is missing)",
                hint="run a kernel with CONFIG_DEBUG_INFO_BTF=y; `make demo` shows retis in a VM",
            )
        self.vmlinux = Btf(directory / "vmlinux")
        self._modules: dict[str, Btf | None] = {}
        self._names = Names(directory)

    def module(self, name: str) -> Btf | None:
        """The types of module *name*, None where it is not loaded or has no BTF."""
        if name not in self._modules:
            path = self.directory / name
            self._modules[name] = Btf(path, self.vmlinux) if os.path.exists(path) else None
        return self._modules[name]

    def modules(self) -> list[str]:
        """Modules that have BTF."""
        return sorted(path.name for path in self.directory.iterdir() if path.name != "vmlinux")

    def everywhere(self, name: str | None = None) -> Iterator[Btf]:
        """vmlinux, then every module; with *name*, only where a type may be called that."""
        # a module's file leaves out the strings that vmlinux has
        shared = name is None or self._names.mention("vmlinux", name)
        if shared:
            yield self.vmlinux
        for module in self.modules():
            if name is None or shared or self._names.mention(module, name):
                found = self.module(module)
                if found:
                    yield found

    def function(self, name: str, module: str | None = None) -> list[Parameter] | None:
        """The parameters of a function, of *module* if known, else of the first file that has it."""
        if module:
            types = self.module(module)
            return types.function(name) if types else None
        return next((found for btf in self.everywhere(name) if (found := btf.function(name)) is not None), None)

    def tracepoint_types(self, name: str) -> Btf | None:
        """The BTF, vmlinux's or a module's, that has tracepoint *name*."""
        return next((btf for btf in self.everywhere(f"btf_trace_{name}") if btf.tracepoint(name) is not None), None)

    def tracepoint(self, name: str) -> list[Parameter] | None:
        """The parameters of a tracepoint of vmlinux or of any module."""
        types = self.tracepoint_types(name)
        return types.tracepoint(name) if types else None

    def has_member(self, structure: str, path: str) -> bool:
        """Does ``struct structure``, of vmlinux or of the first module that has it, have the member at *path*?"""
        found = next((btf for btf in self.everywhere(structure) if btf.find(structure, Kind.STRUCT)), None)
        return found is not None and found.has_member(structure, path)

    def enum(self, name: str) -> dict[str, int] | None:
        """The values of an enum of vmlinux or of any module."""
        return next((found for btf in self.everywhere(name) if (found := btf.enum(name)) is not None), None)
