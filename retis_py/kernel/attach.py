"""Attach: every planned probe to its program; many functions of one shape together."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from retis_py.errors import ProbeError
from retis_py.kernel.compose import Shape
from retis_py.kernel.plan import Planned
from retis_py.kernel.session import Function, Session
from retis_py.kernel.system import System
from retis_py.kernel.usdt import UserProcess

__all__ = ["MANY", "attach_all", "gather", "progress"]

_log = logging.getLogger(__name__)

#: from this many kprobes on, one program serves all of a shape: loading a copy for each would take longer than the
#: look-up that tells them apart is worth
MANY = 48
#: attaching fewer than this is over before a progress bar can be read
_BAR = 100


def gather(planned: Sequence[Planned]) -> list[Planned]:
    """*planned*, with the shapes of functions that are attached together marked as such."""

    def reports(entry: Planned) -> bool:
        return entry.required and entry.shape.type == "kprobe"

    if sum(map(reports, planned)) < MANY:
        return list(planned)
    return [
        entry._replace(shape=entry.shape.for_many(), positions=entry.shape.positions) if reports(entry) else entry
        for entry in planned
    ]


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal, where there is enough to wait for; gives the function that advances it."""
    if total < _BAR or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def attach_all(
    session: Session,
    planned: Sequence[Planned],
    shapes: Sequence[Shape],
    system: System,
    process: UserProcess | None = None,
) -> int:
    """Attach all probes; returns how many there are now. A required one that cannot be attached is an error, unless
    it is one of many or was found by a pattern: those are left out with one warning."""
    numbers = {shape: number for number, shape in enumerate(shapes)}
    together: dict[Shape, list[Function]] = {}
    refused: list[str] = []
    attached = 0
    for index, (probe, shape, required, positions) in enumerate(planned):
        if shape.many:
            address, _ = system.symbols.table.get(probe.symbol, (0, None))
            together.setdefault(shape, []).append(Function(index, probe.symbol, address, positions))
            continue
        function = shape.function(numbers[shape])
        _log.debug("Adding probe to %s", probe.name)
        try:
            if probe.type == "usdt":
                assert process is not None
                session.attach_usdt(function, index, process)
            elif probe.type == "raw_tracepoint":
                session.attach_raw_tracepoint(function, index, probe.attach_name)
            else:
                at_return = probe.type == "kretprobe"
                session.attach_kprobe(function, index, probe.attach_name, at_return)
                if at_return:
                    session.attach_kprobe("kretprobe_entry", index, probe.attach_name)
            attached += 1
        except ProbeError as error:
            if required and not probe.by_pattern:
                raise
            if required:
                refused.append(probe.symbol)
            else:
                _log.warning("packets may keep their identity too long or lose it: %s", error)
    with progress("Attaching probes", sum(map(len, together.values()))) as step:
        for shape, targets in together.items():
            known = [target for target in targets if target.address]
            missing = [target.symbol for target in targets if not target.address]
            left_out = missing + session.attach_kprobes(
                shape.function(numbers[shape]), known, system.kprobe_multi, step
            )
            attached += len(targets) - len(left_out)
            refused += left_out
    if refused:
        shown = ", ".join(refused[:3]) + (", ..." if len(refused) > 3 else "")
        _log.warning("%d function(s) cannot be probed and are left out: %s", len(refused), shown)
    return attached
