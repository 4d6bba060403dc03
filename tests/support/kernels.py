"""Kernels as a collector sees them, for tests without one: names, members and enums that were chosen."""

from __future__ import annotations

from typing import Any

from retis_py.kernel.btf import Parameter

__all__ = ["FakeKernel"]


class FakeKernel:
    """*enums* by name, *missing* as ``struct.member`` of what this kernel does not have, *tracepoints* by name with
    the types of their parameters, *config* by option (None: not known), *modules* that are loaded, *functions* by name
    with the names of their parameters, if it has *kprobes*."""

    def __init__(
        self,
        enums: dict[str, dict[str, int]] | None = None,
        missing: tuple[str, ...] = (),
        tracepoints: dict[str, list[str]] | None = None,
        version: tuple[int, int] = (6, 12),
        config: dict[str, str] | None = None,
        modules: tuple[str, ...] = (),
        functions: dict[str, list[str]] | None = None,
        kprobes: bool = True,
    ) -> None:
        self._enums, self._missing, self._version = enums or {}, missing, version
        self._tracepoints = tracepoints or {}
        self._config, self._modules = config, modules
        self._functions = functions or {}
        self.kprobes = kprobes

    @property
    def types(self) -> Any:
        return self

    @property
    def vmlinux(self) -> Any:
        return self

    def enum(self, name: str) -> dict[str, int] | None:
        return self._enums.get(name)

    def has_member(self, struct: str, path: str) -> bool:
        return f"{struct}.{path}" not in self._missing

    def tracepoint(self, name: str) -> list[Parameter] | None:
        types = self._tracepoints.get(name)
        return None if types is None else [Parameter("", text, 0, text.count("*")) for text in types]

    def cpus(self) -> int:
        return 2

    def release(self) -> tuple[int, int]:
        return self._version

    def config(self, option: str) -> str | None:
        return None if self._config is None else self._config.get(option, "n")

    def module_loaded(self, name: str) -> bool:
        return name in self._modules

    def has_symbol(self, name: str) -> bool:
        return name in self._functions

    def function(self, name: str) -> list[Parameter] | None:
        names = self._functions.get(name)
        return None if names is None else [Parameter(text, "", 0, 0) for text in names]
