"""Events of older files, made into events of today.

Steps and order are upstream's. It refuses some files that it could read (a 1.5 event with a parent
connection, a section that is null, a 1.6 startup event that already names its machine): here a step
whose work is done already is no error, and null is the same as absent.
"""

from __future__ import annotations

from typing import Any

__all__ = ["upgrade"]

_Json = dict[str, Any]


def _parent(event: _Json, path: str) -> tuple[_Json | None, str]:
    """The object that holds the last component of *path*, None if there is none; and that component."""
    *components, leaf = path.split(".")
    at: Any = event
    for component in components:
        at = at.get(component)
        if at is None:
            return None, leaf
        if not isinstance(at, dict):
            raise ValueError(f"Could not reach target ({component})")
    return at, leaf


def _add(event: _Json, path: str, value: Any) -> None:
    parent, leaf = _parent(event, path)
    if parent is not None and parent.get(leaf) is None:
        parent[leaf] = value


def _move(event: _Json, source: str, target: str) -> None:
    parent, leaf = _parent(event, source)
    if parent is None or parent.get(leaf) is None:
        return
    to, name = _parent(event, target)
    if to is None:
        return
    if to.get(name) is not None:
        import json  # 2 ms that no sound file needs

        raise ValueError(f"Destination field ('{json.dumps(to, separators=(',', ':'))}') already exists")
    to[name] = parent[leaf]
    parent[leaf] = None


def _from_1_5(event: _Json) -> None:
    _add(event, "ct.ct_status", 0)
    _add(event, "ct.parent.ct_status", 0)
    _move(event, "skb.packet.packet", "skb.packet.raw")
    _move(event, "skb.ns.netns", "skb.ns.inum")
    _move(event, "skb.packet", "packet")
    _move(event, "skb.dev", "dev")
    _move(event, "skb.ns", "netns")
    _move(event, "packet.raw", "packet.data")


def _from_1_6(event: _Json) -> None:
    _add(event, "startup.machine", {})
    _add(event, "startup.machine.kernel_release", "unknown")
    _add(event, "startup.machine.kernel_version", "unknown")
    _add(event, "startup.machine.hardware_name", "unknown")
    _add(event, "startup.cmdline", "unknown")
    _move(event, "ct.tcp_state", "ct.proto_state")
    _move(event, "ct.parent.tcp_state", "ct.parent.proto_state")


def upgrade(event: Any, level: int) -> None:
    """Turn *event*, the JSON of one event of a file of *level*, into one of today. Raises ValueError."""
    if not isinstance(event, dict):
        raise ValueError("Unknown event format (not a map nor an array)")
    if level < 1:
        _from_1_5(event)
    if level < 2:
        _from_1_6(event)
