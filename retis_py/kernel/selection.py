"""Which collectors run: all that can (``auto``), or those asked for."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from retis_py.collectors import COLLECTORS, Collector
from retis_py.collectors.base import Kernel, Unavailable
from retis_py.errors import KernelError, UsageError

__all__ = ["AUTO", "NAMES", "select"]

_log = logging.getLogger(__name__)

AUTO = "auto"
#: collectors that have a BPF side; the others only read events so far
NAMES = tuple(c.name for c in COLLECTORS if c.layouts)


def select(wanted: Collection[str], kernel: Kernel, options: Mapping[str, Any]) -> Sequence[Collector]:
    """The collectors of a run, set up, in hook order.

    With ``auto`` in *wanted* every collector is tried and those that cannot run are skipped, unless also named.
    """
    for name in wanted:
        if name not in (AUTO, *NAMES):
            raise UsageError(
                f"invalid value '{name}' for '--collectors <LIST>'",
                hint=f"possible values: {AUTO}, {', '.join(NAMES)}",
            )
    started, skipped = [], []
    for kind in COLLECTORS:
        if kind.name not in NAMES or (AUTO not in wanted and kind.name not in wanted):
            continue
        collector = kind()
        try:
            collector.check(kernel)
            collector.setup(kernel, options)
        except Unavailable as reason:
            if kind.name in wanted:
                raise KernelError(f"Cannot run collector {kind.name}: {reason}", reason.hint) from None
            _log.debug("Cannot run collector %s: %s", kind.name, reason)
            skipped.append(kind.name)
            continue
        started.append(collector)
    if AUTO in wanted:
        _log.info("Collector(s) started: %s", ", ".join(c.name for c in started))
    return started
