"""From raw events in order of time to batches of events, those that collectors made themselves included."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from retis_py.collectors import Event
from retis_py.collectors.base import Collector
from retis_py.errors import MalformedEvent
from retis_py.events.core import CommonSection
from retis_py.events.event import attribute
from retis_py.events.wire import Decoder

__all__ = ["Decoding"]

_log = logging.getLogger(__name__)


class Decoding:
    """What *decoder* makes of the kernel's events, and *collectors* of what they asked elsewhere."""

    def __init__(self, decoder: Decoder, collectors: Sequence[Collector]) -> None:
        self._decoder, self._collectors = decoder, collectors
        #: raw events that came
        self.came = 0
        self._undecodable, self._first_undecodable = 0, ""
        #: made by collectors, and newer than what has been handed out
        self._made: list[Any] = []

    def batch(self, raws: list[bytes], limit: int | None) -> list[Any]:
        """Events of *raws*, and those up to *limit* (ns; None: all) that collectors made, in order of time."""
        return self._with_made(self._decode(raws), limit)

    def _decode(self, raws: list[bytes]) -> list[Any]:
        decode, out = self._decoder.decode, []
        self.came += len(raws)
        for raw in raws:
            try:
                out.append(decode(raw))
            except MalformedEvent as error:
                self._undecodable += 1
                self._first_undecodable = self._first_undecodable or str(error)
        return out

    def _with_made(self, batch: list[Any], limit: int | None) -> list[Any]:
        for collector in self._collectors:
            for timestamp, sections in collector.events():
                named = {attribute(key): section for key, section in sections.items()}
                self._made.append(Event(common=CommonSection(timestamp), **named))
        if not self._made:
            return batch
        out = [event for event in self._made if limit is None or event.common.timestamp <= limit]
        self._made = self._made[len(out) :]
        return sorted(batch + out, key=lambda event: event.common.timestamp) if out else batch

    def summary(self) -> None:
        """Warn of events that could not be decoded."""
        if self._undecodable:
            _log.warning("%d event(s) could not be decoded (first: %s)", self._undecodable, self._first_undecodable)
