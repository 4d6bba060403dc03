"""Probes as they are written on the command line: ``[TYPE:]TARGET[/OPTION...]``."""

from __future__ import annotations

from typing import NamedTuple

from retis_py.errors import ProbeError

__all__ = ["OPTIONS", "TYPES", "Spec", "parse"]

#: words that begin a probe -> probe type
TYPES = {
    "kprobe": "kprobe",
    "k": "kprobe",
    "kretprobe": "kretprobe",
    "kr": "kretprobe",
    "raw_tracepoint": "raw_tracepoint",
    "tp": "raw_tracepoint",
}
OPTIONS = ("stack", "args", "ret")


class Spec(NamedTuple):
    """A probe as asked for: ``[TYPE:]TARGET[/OPTION...]``; the target may hold ``*``."""

    type: str
    target: str
    options: frozenset[str]
    text: str


def parse(text: str) -> Spec:
    """Read one ``-p`` argument."""
    target, slash, tail = text.partition("/")
    options = tail.split("/") if slash else []
    if "" in options:
        raise ProbeError("Empty options are not allowed. Check your option list doesn't terminate with '/'.")
    for option in options:
        if option not in OPTIONS:
            raise ProbeError(f"'{option}' is an invalid probe option.", hint=f"there is: {', '.join(OPTIONS)}")
    if len(set(options)) != len(options):
        raise ProbeError(f"duplicate options detected in {tail}.")
    word, colon, rest = target.partition(":")
    if not colon:
        kind, rest = "kprobe", target
    elif word in TYPES:
        kind = TYPES[word]
    elif ":" not in rest:
        kind, rest = "raw_tracepoint", target
    else:
        raise ProbeError(
            f"Invalid TYPE {word}. See the help.", hint="a probe is [kprobe:|kretprobe:|tp:]TARGET[/OPTION]"
        )
    if "ret" in options and kind != "kretprobe":
        raise ProbeError(f"option 'ret' of {text}: only kretprobes see a return value", hint=f"kretprobe:{rest}/ret")
    return Spec(kind, rest, frozenset(options), text)
