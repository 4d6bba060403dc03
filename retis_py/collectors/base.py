"""Collector: what a collector's module says of itself.  BPF side: bpf/collectors/<name>.bpf.c

A collector module holds, in this order: raw layouts, section types with their text, the collector. Nothing
here or in a collector module may import from `retis_py.kernel`, `retis_py.process` or `retis_py.cli`.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["Collector"]


class Collector:
    """One source of sections. Subclasses are listed, in hook order, in `retis_py.collectors.COLLECTORS`."""

    #: name on the command line
    name: ClassVar[str]
    #: section types it can fill: `Section` classes, or a Union of those that share a key
    sections: ClassVar[tuple[Any, ...]] = ()
