"""Views of sections, as upstream's library shows them: what `retis_py.api` hands out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from retis_py.collectors import ct, ovs, skb, skb_tracking
from retis_py.events import core
from retis_py.events.section import PLAIN

__all__ = ["View", "view"]


class View:
    """What a section, or a part of one, looks like from outside: its JSON fields are attributes."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        object.__setattr__(self, "_value", value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._names():
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        value = getattr(self._value, name)
        special = _FIELDS.get(name)
        return view(value) if special is None or value is None else special(value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"'{type(self).__name__}' object attribute '{name}' cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"'{type(self).__name__}' object attribute '{name}' cannot be removed")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._names()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return repr(self.to_dict())

    def __str__(self) -> str:
        value = self._value
        # parts of sections have no text of their own, as upstream's
        prints = isinstance(value, core.SkbId) or bool(getattr(value, "key", None))
        return str(value.text(PLAIN)) if prints else repr(self)

    def __reduce__(self) -> Any:
        return type(self), (self._value,)

    def _names(self) -> tuple[str, ...]:
        return tuple(self._value.__struct_fields__)

    def to_dict(self) -> Any:
        """The section as in the event file."""
        return msgspec.to_builtins(self._value)


class Variant(View):
    """One of several: has one attribute, named as what it is."""

    __slots__ = ()

    def _variants(self) -> dict[str, Any]:
        raise NotImplementedError

    def _names(self) -> tuple[str, ...]:
        return tuple(self._variants())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._names():
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        return self._variants()[name]


class SkbTrackingView(View):
    """Identity of a packet."""

    __slots__ = ()

    def tracking_id(self) -> int:
        """The id of the packet, the same in all its events."""
        return int(self._value.tracking_id())

    def match(self, other: SkbTrackingView) -> bool:
        """Whether *other* is the same packet."""
        return self.tracking_id() == other.tracking_id()

    def strict_match(self, other: SkbTrackingView) -> bool:
        """Whether *other* is the same packet in the same sk_buff, not in a clone."""
        return self.match(other) and self._value.skb == other._value.skb


class RawPacket:
    """The bytes of a packet."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bytes__(self) -> bytes:
        return self._data

    def __len__(self) -> int:
        return len(self._data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RawPacket) and self._data == other._data

    def __hash__(self) -> int:
        return hash(self._data)

    def __repr__(self) -> str:
        return repr(self._data)

    def to_scapy(self) -> Any:
        """The packet as scapy's Ether."""
        try:
            from scapy.all import Ether
        except ImportError as error:
            raise ImportError("Could not import scapy.all") from error
        return Ether(self._data)


class PacketView(View):
    """A packet."""

    __slots__ = ()

    def to_scapy(self) -> Any:
        """The packet as scapy's Ether."""
        return RawPacket(self._value.data).to_scapy()


class CtView(View):
    """A conntrack entry: *state*, *base* (the connection) and *parent*, another connection or None."""

    __slots__ = ()

    @property
    def base(self) -> View:
        fields = ct.CtConnection.__struct_fields__
        return View(ct.CtConnection(**{name: getattr(self._value, name) for name in fields}))

    def _names(self) -> tuple[str, ...]:
        return "state", "parent"


class CtProtoView(Variant):
    """Protocol of a connection: tcp, udp, icmp or sctp."""

    __slots__ = ()

    def _variants(self) -> dict[str, Any]:
        parts = {name: getattr(self._value, name) for name in self._value.__struct_fields__}
        return {name: View(part) for name, part in parts.items() if part is not None}


class Untagged(View):
    """A variant itself: the name of the variant is not one of its fields."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        fields: dict[str, Any] = super().to_dict()
        fields.pop("event_type", None)
        return fields

    def __str__(self) -> str:
        return repr(self)


class OvsView(Variant):
    """An OVS event: upcall, upcall_enqueue, upcall_return, recv_upcall, ... flow_lookup."""

    __slots__ = ()

    def _variants(self) -> dict[str, Any]:
        kind = ActionExecute if isinstance(self._value, ovs.OvsAction) else Untagged
        return {self._value.__struct_config__.tag: kind(self._value)}


class ActionExecute(Untagged):
    """An action: *action* says which, None if that is not known."""

    __slots__ = ()

    def _names(self) -> tuple[str, ...]:
        return "recirc_id", "queue_id", "action"

    def __getattr__(self, name: str) -> Any:
        if name == "action":
            return None if self._value.action is None else ActionView(self._value)
        return super().__getattr__(name)


class ActionView(Variant):
    """An action: *output*, *recirc* and *ct* have their fields below that name, a drop its *reason*."""

    __slots__ = ()

    #: fields of the actions that have some
    _FIELDS = {"output": ("port",), "recirc": ("id",), "ct": ("flags", "zone_id", "nat"), "drop": ("reason",)}

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self._value, name) for name in self._FIELDS.get(self._value.action, ())}

    def _variants(self) -> dict[str, Any]:
        action, fields = self._value.action, self._fields()
        if action == "drop":
            return fields
        if not fields:
            return {}
        kind = msgspec.defstruct(action, [(name, Any, None) for name in fields], omit_defaults=True)
        return {action: View(kind(**fields))}

    def to_dict(self) -> dict[str, Any]:
        given = {name: value for name, value in self._fields().items() if value is not None}
        return {"action": self._value.action, **msgspec.to_builtins(given)}

    def __str__(self) -> str:
        return repr(self)


class ListView(View):
    """A list with a name in upstream's library: a stack trace or a flow's id."""

    __slots__ = ()

    def to_dict(self) -> list[Any]:
        return list(self._value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._value)

    def __len__(self) -> int:
        return len(self._value)

    def _names(self) -> tuple[str, ...]:
        return ()


class UfidView(ListView):
    """Unique flow identifier."""

    __slots__ = ()

    def show(self) -> str:
        """As ovs-dpctl prints it."""
        return ovs.ufid_text(self._value)


class Word(str):
    """A value of an enumeration."""

    __slots__ = ()

    def to_dict(self) -> str:
        """The value as in the event file."""
        return str(self)

    def __repr__(self) -> str:
        return str(self)


#: section type -> its view
_VIEWS: dict[type, type[View]] = {
    core.SkbId: SkbTrackingView,
    skb_tracking.SkbTracking.sections[0]: SkbTrackingView,
    skb.PacketSection: PacketView,
    ct.CtSection: CtView,
    ct.CtProto: CtProtoView,
    **dict.fromkeys(ovs.OvsSection.__args__, OvsView),  # type: ignore[attr-defined]
}
#: fields that are not shown as the plain value they hold
_FIELDS: dict[str, Any] = {
    "stack_trace": ListView,
    "ufid": UfidView,
    "data": RawPacket,
    "state": Word,
    "zone_dir": Word,
    "version": Word,
    "dir": Word,
}


def view(value: Any) -> Any:
    """*value* as users see it."""
    if isinstance(value, msgspec.Struct):
        return _VIEWS.get(type(value), View)(value)
    return list(value) if isinstance(value, tuple) else value
