"""Loss ledger: what the BPF side could not report, by probe and by cause."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from retis_py.events.core import ProbeSection

__all__ = ["CAUSES", "Ledger", "Loss"]

_log = logging.getLogger(__name__)

#: enum loss of bpf/core.h: why something was lost
CAUSES = (
    "buffer full, see --buffer-pages",
    "too many hits under way on one CPU",
    "tracking map full",
    "table of a collector full",
)
#: why the kernel did not hand a hit to its program
RUNNING = "a BPF program was already running on that CPU"
HANDLED = "another probe was being handled on that CPU"
RETURNS = f"more calls under way than the kernel remembers the returns of, or {HANDLED}"
#: causes that cost an event
EVENT_CAUSES = (0, 1)
#: what the others cost
_COSTS = {2: "%d event(s) from %s without identity", 3: "%d packet(s) at %s not followed any further"}


def _name(probe: ProbeSection) -> str:
    return f"kretprobe:{probe.symbol}" if getattr(probe, "probe_type", "") == "kretprobe" else probe.symbol


class Loss(NamedTuple):
    """Losses of one probe, by cause and CPU."""

    probe: str
    cause: int
    cpu: int
    count: int


class Ledger:
    """Reads the losses of a *session* whose *probes* are these, by index; more may be added while collecting. Hits
    that *quiet* probes missed are no news: they report nothing, and there are others for what they are for."""

    def __init__(self, session: Any, probes: Sequence[ProbeSection], quiet: Collection[int] = ()) -> None:
        self._session, self._probes, self._quiet = session, probes, quiet
        self._told = 0
        self._next = time.monotonic() + 1

    def read(self) -> list[Loss]:
        """All losses so far."""
        out = []
        for index, cpu, count in self._session.losses():
            probe, cause = divmod(index, len(CAUSES))
            out.append(Loss(_name(self._probes[probe]), cause, cpu, count))
        return out

    def watch(self) -> None:
        """Warn when the count of lost events grew; at most once a second."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 1
        counts = self._session.cpus.counts().lost
        lost = sum(counts[cause] for cause in EVENT_CAUSES)
        if lost > self._told:
            causes = "; ".join(CAUSES[cause] for cause in EVENT_CAUSES if counts[cause])
            _log.warning("lost %d event(s) so far (%s)", lost, causes)
            self._told = lost

    def summary(self, reported: int | None = None) -> int:
        """Warn of all losses, by probe; returns the number of events lost. *reported* is how many events came here,
        None if not all were waited for."""
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
                _log.warning(f"{_COSTS[cause]}\n  %s: %s", count, probe, CAUSES[cause], where)
        if total:
            _log.warning("total events lost: %d", total)
        self._tell_missed()
        if reported is not None:
            self._balance(reported, total)
        return total

    def _balance(self, reported: int, lost: int) -> None:
        """What the programs say they handed over must be what came here."""
        _, passed, empty = self._session.cpus.counts()
        _log.debug("%d hit(s) passed: %d reported, %d lost, %d without anything to say", passed, reported, lost, empty)
        if passed != reported + lost + empty:
            _log.warning(
                "the ledger does not add up: %d hit(s) passed the filters, %d were reported, %d lost, "
                "%d had nothing to say",
                *(passed, reported, lost, empty),
            )

    def _tell_missed(self) -> None:
        """Hits that no program looked at: whether the filter would have let them pass is not known."""
        missed: dict[tuple[str, str], int] = {}
        for probe, running, count in self._session.missed():
            if probe in self._quiet:
                continue
            name = "probes attached together" if probe is None else _name(self._probes[probe])
            why = RUNNING if running else RETURNS if name.startswith("kretprobe:") else HANDLED
            missed[name, why] = missed.get((name, why), 0) + count
        for (name, why), count in missed.items():
            _log.warning("missed %d hit(s) of %s\n  %s", count, name, why)
