"""Stacks: the stack traces of events, by the ids the BPF side reports."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from retis_py.events.core import KernelSection, ProbeSection
from retis_py.kernel.symbols import Symbols

__all__ = ["Stacks"]

_log = logging.getLogger(__name__)


class Stacks:
    """Resolves stack ids. With *reporting* only the probes in it show their traces."""

    def __init__(self, session: Any, symbols: Symbols, reporting: Collection[ProbeSection] | None = None) -> None:
        self._session, self._symbols, self._reporting = session, symbols, reporting
        #: an entry of the map stays what it is: programs never replace one (no BPF_F_REUSE_STACKID)
        self._traces: dict[int, tuple[str, ...]] = {}
        self._new: list[tuple[str, ...]] = []
        self.missing = 0

    def section(self, kernel: KernelSection, stack_id: int) -> KernelSection:
        """*kernel* with its stack trace."""
        trace = self._traces.get(stack_id) or self._resolve(stack_id)
        if not trace or (self._reporting is not None and kernel not in self._reporting):
            return kernel
        return KernelSection(kernel.symbol, kernel.probe_type, trace)

    def _resolve(self, stack_id: int) -> tuple[str, ...]:
        trace = tuple(map(self._symbols.name, self._session.stack(stack_id)))
        if trace:
            self._traces[stack_id] = trace
            self._new.append(trace)
        else:
            self.missing += 1
        return trace

    def take_new(self) -> list[tuple[str, ...]]:
        """The traces seen for the first time since the last call."""
        new, self._new = self._new, []
        return new

    def summary(self) -> None:
        """Tell of the traces that are missing."""
        if self.missing:
            _log.warning("%d stack trace(s) are missing: the stack map is full, or two of them collided", self.missing)
