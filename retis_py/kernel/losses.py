"""Loss ledger: what the BPF side could not report, by probe and by cause."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["CAUSES", "Ledger", "Loss"]

_log = logging.getLogger(__name__)

#: enum loss of bpf/core.h: what was lost, and what to do
CAUSES = (
    ("buffer full", "see --buffer-pages"),
    ("probes nested too deep", ""),
    ("tracking map full: reported without identity", ""),
)
#: causes that cost an event
EVENT_CAUSES = (0, 1)


class Loss(NamedTuple):
    """Losses of one probe on one CPU."""

    probe: str
    cause: int
    cpu: int
    count: int


class Ledger:
    """Reads the losses of a *session* whose probes are *names*, by index."""

    def __init__(self, session: Any, names: Sequence[str]) -> None:
        self._session, self._names = session, names
        self._told = self._records = 0
        self._next = time.monotonic() + 1

    def read(self) -> list[Loss]:
        """All losses so far."""
        out = []
        for index, cpu, count in self._session.losses():
            probe, cause = divmod(index, len(CAUSES))
            out.append(Loss(self._names[probe], cause, cpu, count))
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
        per_probe: dict[tuple[str, int], int] = {}
        for loss in self.read():
            key = (loss.probe, loss.cause)
            per_probe[key] = per_probe.get(key, 0) + loss.count
        for (probe, cause), count in per_probe.items():
            what, remedy = CAUSES[cause]
            if cause in EVENT_CAUSES:
                total += count
                _log.warning("lost %d event(s) from %s", count, probe)
                _log.debug("cause: %s%s", what, f" ({remedy})" if remedy else "")
            else:
                _log.warning("%d event(s) from %s without identity: tracking map full", count, probe)
        if total:
            _log.warning("total events lost: %d", total)
        return total
