"""The event type: one optional attribute per section, in the order of upstream's files.

Which sections there are depends on the collectors, and this package does not know them: `retis_py.collectors`
makes its `Event` here from its list.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional, get_args

import msgspec

from retis_py.events.core import CORE_SECTIONS
from retis_py.events.section import Section

__all__ = ["FILE_ORDER", "BaseEvent", "attribute", "make_event_type", "section_key", "section_types"]

#: keys of the sections upstream knows, in the order of its files; others go before the last one
FILE_ORDER = (
    "common",
    "kernel",
    "userspace",
    "tracking",
    "skb-tracking",
    "skb-drop",
    "packet",
    "skb",
    "netns",
    "dev",
    "ovs",
    "ovs-detrace",
    "nft",
    "ct",
    "startup",
)


class BaseEvent(msgspec.Struct, omit_defaults=True, rename="kebab", gc=False, kw_only=True):
    """What all event types have in common. A section that an event does not have is None.

    Sections are frozen and may be shared between events; events are not: ``sort`` adds a section to them.
    """

    def sections(self) -> list[tuple[str, Section]]:
        """Key and section of those present, in file order."""
        return [
            (key, section)
            for key, name in zip(self.__struct_encode_fields__, self.__struct_fields__)
            if (section := getattr(self, name)) is not None
        ]


def section_types(section: Any) -> tuple[type[Section], ...]:
    """The classes of a section type, which may be a Union of classes sharing a key."""
    return get_args(section) or (section,)


def section_key(section: Any) -> str:
    """The key of a section type in files."""
    return section_types(section)[0].key


def attribute(key: str) -> str:
    """The attribute of an event for the section *key*: ``skb-drop`` -> ``skb_drop``."""
    return key.replace("-", "_")


def _place(key: str) -> int:
    return FILE_ORDER.index(key) if key in FILE_ORDER else len(FILE_ORDER) - 1


def make_event_type(sections: Iterable[Any]) -> type[BaseEvent]:
    """An event type with the core sections and *sections*, each a `Section` class or a Union of such."""
    *core, startup = CORE_SECTIONS
    ordered = [*core, *sections]
    ordered.sort(key=lambda section: _place(section_key(section)))
    ordered.append(startup)
    fields = [(attribute(section_key(section)), Optional[section], None) for section in ordered]
    made: Any = msgspec.defstruct(
        "Event", fields, bases=(BaseEvent,), module="retis_py.collectors", omit_defaults=True, gc=False
    )
    event_type: type[BaseEvent] = made
    return event_type
