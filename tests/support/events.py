"""Matching events: a pattern is a nested dict, and an event matches when it holds at least that much."""

from __future__ import annotations

import base64
import json
import socket
from typing import Any

__all__ = [
    "Event",
    "addresses",
    "brief",
    "find_in_order",
    "frame",
    "matches",
    "tcp_flags",
    "tcp_payload",
    "tracking_id",
]

Event = dict[str, Any]


def matches(event: Any, pattern: Any) -> bool:
    """A dict matches key by key, a function by what it returns, anything else by equality."""
    if isinstance(pattern, dict):
        return isinstance(event, dict) and all(
            key in event and matches(event[key], pattern[key]) for key in pattern
        )
    if callable(pattern):
        return bool(pattern(event))
    return bool(event == pattern)


def find_in_order(events: list[Event], patterns: tuple[Event, ...]) -> list[Event]:
    """One event for each of *patterns*, in this order; others in between are allowed."""
    found: list[Event] = []
    rest = iter(events)
    for pattern in patterns:
        for event in rest:
            if matches(event, pattern):
                found.append(event)
                break
        else:
            seen = "\n  ".join(map(brief, events)) or "(none)"
            raise AssertionError(f"after {len(found)} matches, no event has {pattern}\nevents:\n  {seen}")
    return found


def brief(event: Event) -> str:
    """An event in one line, for failure messages: packets as hex."""
    shown = dict(event)
    if "packet" in shown:
        shown["packet"] = {**shown["packet"], "data": frame(event).hex()}
    return json.dumps(shown)


def frame(event: Event) -> bytes:
    """The captured bytes, from the Ethernet header on."""
    return base64.b64decode(event["packet"]["data"])


def tracking_id(event: Event) -> tuple[int, int]:
    section = event["skb-tracking"]
    return section["timestamp"], section["orig_head"]


def addresses(event: Event) -> tuple[str, str]:
    """Source and destination of an untagged IPv4 packet."""
    data = frame(event)
    return socket.inet_ntoa(data[26:30]), socket.inet_ntoa(data[30:34])


def tcp_payload(event: Event) -> int:
    """Bytes of payload of an untagged IPv4 TCP segment whose IP header has no options."""
    return int(event["packet"]["len"]) - 14 - 20 - 4 * (frame(event)[14 + 20 + 12] >> 4)


def tcp_flags(event: Event) -> int:
    """Flags of an untagged IPv4 TCP segment whose IP header has no options."""
    return frame(event)[14 + 20 + 13]
