"""``--probe-stack``: functions found in the stack traces of events are probed too, while collecting.

Which functions those are is not known when the text is compiled, so they share one program that looks up where their
arguments are (`Shape.anywhere`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from retis_py.collectors.base import Collector
from retis_py.errors import RetisError
from retis_py.events.core import KernelSection, ProbeSection
from retis_py.kernel.compose import HIT_STACK, Shape
from retis_py.kernel.plan import NEVER_NEW, Planned, shape_of, useful
from retis_py.kernel.probes import Probe
from retis_py.kernel.session import Function, Session
from retis_py.kernel.system import System

__all__ = ["LATE", "ROOM", "StackProbes"]

_log = logging.getLogger(__name__)

#: the shape of all functions that are probed while collecting
LATE = Shape("kprobe", flags=HIT_STACK).for_many()
#: probes that can be added
ROOM = 1024


class StackProbes:
    """Adds a probe for each function of the traces it is shown, if a collector can use it.

    *planned*, *kernels* and *names* are the run's lists by probe index: what is added is appended to them.
    """

    def __init__(
        self,
        session: Session,
        system: System,
        collectors: Sequence[Collector],
        planned: list[Planned],
        kernels: list[ProbeSection],
        function: str,
    ) -> None:
        self._session, self._system, self._collectors = session, system, collectors
        self._planned, self._kernels, self._function = planned, kernels, function
        self._seen = {entry.probe.symbol for entry in planned if entry.probe.type == "kprobe"}
        self._seen.update(name.removeprefix("kprobe:") for name in NEVER_NEW)
        self._left = ROOM

    def look(self, traces: Iterable[tuple[str, ...]]) -> None:
        """Probe what is new in *traces*."""
        found = []
        for trace in traces:
            for line in trace:
                symbol, plus, _ = line.rpartition("+")
                if plus and symbol not in self._seen:
                    self._seen.add(symbol)
                    if (planned := self._plan(symbol)) is not None:
                        found.append(planned)
        if len(found) > self._left:
            _log.warning("%d function(s) are not probed: no more than %d can be added", len(found) - self._left, ROOM)
            del found[self._left :]
        if found:
            self._left -= len(found)
            self._attach(found)

    def _plan(self, symbol: str) -> Planned | None:
        parameters = self._system.function(symbol)
        traceable = self._system.tracefs.functions
        if parameters is None or (traceable is not None and symbol not in traceable):
            return None
        probe = Probe("kprobe", symbol, tuple(parameters))
        if not useful(probe, self._collectors):
            return None
        return Planned(probe, shape_of(probe, self._collectors), True)

    def _attach(self, found: list[Planned]) -> None:
        """In the lists first: a hit may come at once."""
        targets = []
        for planned in found:
            index = len(self._planned)
            self._planned.append(planned)
            self._kernels.append(KernelSection(planned.probe.symbol, planned.probe.type))
            address, _ = self._system.symbols.table.get(planned.probe.symbol, (0, None))
            targets.append(Function(index, planned.probe.symbol, address, planned.shape.positions))
        try:
            refused = set(self._session.attach_kprobes(self._function, targets, self._system.kprobe_multi))
        except RetisError as error:
            _log.warning("Could not attach additional probe(s): %s", error)
            return
        for planned in found:
            if planned.probe.symbol not in refused:
                _log.debug("Added probe to %s", planned.probe.symbol)
        if refused:
            _log.warning("Could not attach additional probe(s): %s cannot be probed", ", ".join(sorted(refused)))
