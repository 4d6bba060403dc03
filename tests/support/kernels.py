"""Kernels as a collector sees them, for tests without one: names, members and enums that were chosen."""

from __future__ import annotations

from typing import Any

from retis_py.kernel.btf import Parameter

__all__ = ["FakeKernel"]


class FakeKernel:
    """*enums* by name, *missing* as ``struct.member`` of what this kernel does not have, *tracepoints* by name with
    the types of their parameters."""

    def __init__(
        self,
        enums: dict[str, dict[str, int]] | None = None,
        missing: tuple[str, ...] = (),
        tracepoints: dict[str, list[str]] | None = None,
        version: tuple[int, int] = (6, 12),
    ) -> None:
        self._enums, self._missing, self._version = enums or {}, missing, version
        self._tracepoints = tracepoints or {}

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

    def release(self) -> tuple[int, int]:
        return self._version

    def config(self, option: str) -> str | None:
        return None

    def module_loaded(self, name: str) -> bool:
        return False

    def has_symbol(self, name: str) -> bool:
        return False
