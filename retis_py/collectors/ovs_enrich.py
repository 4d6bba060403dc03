"""Flow enrichment: what ovs-vswitchd says of the kernel's flows that look-ups found (``--ovs-enrich-flows``).

The path of events only leaves a note of a flow it has not seen lately; a thread asks, so many times a second, and its
answers become events of their own, which ``retis sort`` puts with the look-ups.

ovs-vswitchd may be restarted meanwhile. The name of its socket holds its process id, so the socket is then looked for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from retis_py.collectors.ovs_events import OvsDetraceSection, ufid_text
from retis_py.collectors.unixctl import Unixctl, UnixctlError, UnixctlGone

__all__ = ["FlowEnricher"]

_log = logging.getLogger(__name__)

_Ufid = tuple[int, int, int, int]

#: flows noted at least, and as many as can be asked for in a second; further ones are asked for when they are looked up
#: again
_QUEUE = 100
#: seconds a flow is remembered without being looked up, and a note is worth asking for
_MEMORY = 10.0
_GET_FLOW, _DETRACE = "dpctl/get-flow", "ofproto/detrace"
#: lib/dpif.h, PMD_ID_NULL: a flow of the kernel is of no thread
_NO_PMD = "pmd=2147483647"
#: seconds at least between two times that look-ups of known flows are noted again
_FORGET = 1.0
#: seconds between two looks for an ovs-vswitchd that is gone
_LOOK = 1.0
#: ofproto/detrace does not know the flow yet, or any more
_UNKNOWN = "Cache was not found"


class _Note(NamedTuple):
    flow: int
    sf_acts: int
    #: time.monotonic() of the look-up
    time: float


class FlowEnricher:
    """Asks *control* at most *rate* times a second; *find* says where its socket is after a restart.

    Whoever calls `note` may keep to itself that a flow is looked up again until *forget* is called: not every look-up
    then costs a note."""

    def __init__(
        self,
        control: Unixctl,
        rate: int,
        find: Callable[[], Path] | None = None,
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        self._control, self._interval = control, 1.0 / rate
        self._room = max(_QUEUE, rate)
        self._find = find or (lambda: control.path)
        self._forget = forget
        #: since *forget* was last called, look-ups were not taken that shall be; when it was
        self._left_out = False
        self._forgot = 0.0
        self._lock = threading.Lock()
        self._wake, self._stopping = threading.Event(), threading.Event()
        #: nobody is at the socket; that has been told
        self._gone = self._told = False
        #: no room for further notes: read without the lock
        self._full = False
        self._notes: OrderedDict[_Ufid, _Note] = OrderedDict()
        #: flows that were noted -> where they were; the second is of those not looked up since the last sweep
        self._known: dict[_Ufid, tuple[int, int]] = {}
        self._older: dict[_Ufid, tuple[int, int]] = {}
        self._swept = time.monotonic()
        self._answers: list[tuple[int, OvsDetraceSection]] = []
        self._thread: threading.Thread | None = None
        self._detrace = True
        self.dropped = self.failed = self.expired = self.requests = 0

    def connect(self) -> None:
        """Find out what ovs-vswitchd can tell; raises UnixctlError."""
        commands = {line.split()[0] for line in self._control.call("list-commands").splitlines() if line.strip()}
        if _GET_FLOW not in commands:
            raise UnixctlError(f"{self._control.path} does not know {_GET_FLOW}")
        before, self._detrace = self._detrace, _DETRACE in commands
        if before and not self._detrace:
            _log.warning("ovs-vswitchd has no %s: flows get their datapath flow, but no OpenFlow rules", _DETRACE)

    def start(self) -> None:
        """Begin to ask."""
        self._thread = threading.Thread(target=self._run, name="ovs-enrich", daemon=True)
        self._thread.start()

    def note(self, ufid: _Ufid, flow: int, sf_acts: int) -> None:
        """A look-up found this flow. On the path of events."""
        where = (flow, sf_acts)
        if self._known.get(ufid) == where:
            return
        if self._full:
            self.dropped += 1
            self._left_out = True
            return
        with self._lock:
            if self._older.pop(ufid, None) == where:
                self._known[ufid] = where
                return
            self._known[ufid] = where
            self._notes[ufid] = _Note(flow, sf_acts, time.monotonic())
            self._full = len(self._notes) >= self._room
            if self._full and not self.dropped:
                _log.warning("more flows are looked up than can be asked for: some are left out for now")
        self._wake.set()

    def take(self) -> list[tuple[int, OvsDetraceSection]]:
        """Answers since the last call, with the time each came, in ns."""
        if not self._answers:
            return []
        with self._lock:
            answers, self._answers = self._answers, []
        return answers

    def stop(self) -> None:
        """Ask no more, and tell what was not answered."""
        if self._thread is None:
            return
        self._stopping.set()
        self._wake.set()
        self._thread.join()
        self._thread = None
        self._control.close()
        if self.failed:
            _log.warning("%d flow enrichment request(s) failed", self.failed)
        if self.expired or self.dropped:
            _log.warning(
                "flow enrichment: %d request(s) too old to send, %d not taken: see --ovs-enrich-rate",
                *(self.expired, self.dropped),
            )
        if self._notes:
            _log.info("%d unsent flow enrichment request(s)", len(self._notes))

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._gone and not self._returned():
                self._stopping.wait(_LOOK)
            elif (noted := self._next()) is None:
                self._wake.wait(1.0)
                self._wake.clear()
            else:
                self._enrich(*noted)

    def _returned(self) -> bool:
        """Is ovs-vswitchd there again, or another one in its place?"""
        try:
            self._control.path = self._find()
            self.connect()
        except UnixctlError as error:
            if not self._told:
                _log.warning("ovs-vswitchd is gone: flows are not enriched until it is back (%s)", error)
            self._told = True
            return False
        _log.info("flow enrichment: asking %s from now on", self._control.path)
        self._gone = self._told = False
        return True

    def _next(self) -> tuple[_Ufid, _Note] | None:
        now = time.monotonic()
        if self._left_out and now - self._forgot > _FORGET:
            self._left_out, self._forgot = False, now
            self._forget()
        with self._lock:
            self._full = False
            if now - self._swept > _MEMORY:
                self._known, self._older, self._swept = {}, self._known, now
                self._left_out = True
            while self._notes:
                ufid, note = self._notes.popitem(last=False)
                if now - note.time <= _MEMORY:
                    return ufid, note
                self._known.pop(ufid, None)
                self._left_out = True
                self.expired += 1
        return None

    def _enrich(self, ufid: _Ufid, note: _Note) -> None:
        text = f"ufid:{ufid_text(ufid)}"
        try:
            dpflow = self._ask(_GET_FLOW, text).strip()
            rules: list[str] = []
            if self._detrace and not self._stopping.is_set():
                answer = self._ask(_DETRACE, text, _NO_PMD)
                rules = [line.strip() for line in answer.splitlines() if line.strip()]
            known = bool(dpflow) and (bool(rules) or not self._detrace) and not any(_UNKNOWN in rule for rule in rules)
        except UnixctlGone as error:
            _log.debug("flow enrichment: %s", error)
            self._gone, known = True, False
        except UnixctlError as error:
            known = _UNKNOWN not in str(error)
            if known:
                self.failed += 1
                _log.debug("flow enrichment: %s", error)
                self._known.pop(ufid, None)
                self._left_out = True
                return
        with self._lock:
            if not known:
                # its turn again at once, as long as it is worth it; a newer note of it takes its place
                self._notes.setdefault(ufid, note)
                self._notes.move_to_end(ufid, last=False)
                return
            section = OvsDetraceSection(ufid, note.flow, note.sf_acts, dpflow, tuple(rules))
            self._answers.append((time.clock_gettime_ns(time.CLOCK_MONOTONIC), section))

    def _ask(self, method: str, *parameters: str) -> str:
        """One request, and the pause that keeps to the rate."""
        began = time.monotonic()
        self.requests += 1
        try:
            return self._control.call(method, *parameters)
        finally:
            end = began + self._interval
            self._stopping.wait(max(0.0, end - time.monotonic()))
