"""Loss ledger: what the BPF side could not report, by probe and by cause."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from retis_py.events.core import ProbeSection

__all__ = ["CAUSES", "Ledger", "Loss"]

_log = logging.getLogger(__name__)

#: enum loss of bpf/core.h: why something was lost
CAUSES = (
    "buffer full, see --buffer-pages",
    "probes nested too deep",
    "tracking map full",
)
#: causes that cost an event
EVENT_CAUSES = (0, 1)


class Loss(NamedTuple):
    """Losses of one probe, by cause and CPU."""

    probe: str
    cause: int
    cpu: int
    count: int


class Ledger:
    """Reads the losses of a *session* whose *probes* are these, by index; more may be added while collecting."""

    def __init__(self, session: Any, probes: Sequence[ProbeSection]) -> None:
        self._session, self._probes = session, probes
        self._told = self._records = 0
        self._next = time.monotonic() + 1

    def read(self) -> list[Loss]:
        """All losses so far."""
        out = []
        for index, cpu, count in self._session.losses():
            probe, cause = divmod(index, len(CAUSES))
            out.append(Loss(self._probes[probe].symbol, cause, cpu, count))
        return out

    def watch(self) -> None:
        """Warn when the count of lost events grew; at most once a second.

        The perf buffers tell (roughly, and late) that something was lost: only then are the counters read.
        """
        if self._session.lost_records == self._records or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 1
        self._records = self._session.lost_records
        lost = sum(loss.count for loss in self.read() if loss.cause in EVENT_CAUSES)
        if lost > self._told:
            _log.warning("lost %d event(s) so far (the buffers are full, see --buffer-pages)", lost)
            self._told = lost

    def summary(self) -> int:
        """Warn of all losses, by probe; returns the number of events lost."""
        total = 0
        per_probe: dict[tuple[str, int], list[Loss]] = {}
        for loss in self.read():
            per_probe.setdefault((loss.probe, loss.cause), []).append(loss)
        for (probe, cause), losses in per_probe.items():
            count = sum(loss.count for loss in losses)
            where = ", ".join(f"CPU {loss.cpu}: {loss.count}" for loss in losses)
            if cause in EVENT_CAUSES:
                total += count
                _log.warning("lost %d event(s) from %s\n  %s: %s", count, probe, CAUSES[cause], where)
            else:
                _log.warning("%d event(s) from %s without identity\n  %s: %s", count, probe, CAUSES[cause], where)
        if total:
            _log.warning("total events lost: %d", total)
        return total
