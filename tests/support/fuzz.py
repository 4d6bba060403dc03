"""A fuzzer of what reads foreign bytes: event lines, raw events, packets. What it finds goes to tests/data/corpus.

    python -m tests.support.fuzz [--seconds N] [--seed N] [line raw frame]

Deterministic for a seed but for where time runs out. The checks are also what `tests/events/test_corpus.py`
replays the corpus with: an input is fine if it becomes text without control characters, the same by all ways
that lead to it, or is refused with an error of ours.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import logging
import os
import random
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from retis_py.collectors import Event
from retis_py.collectors.parts import PARTS
from retis_py.display import TextRenderer, to_text
from retis_py.errors import MalformedEvent, RetisError
from retis_py.events.file import EventReader
from retis_py.events.packet import packet_text
from retis_py.events.section import Style
from retis_py.events.visible import visible
from retis_py.events.wire import HEADER
from retis_py.process.pcap import export
from retis_py.process.printing import print_events
from retis_py.process.sort import SeriesPrinter, SeriesWriter, SortEvent, sort_file
from retis_py.process.stats import count_file, render
from tests.support.frames import frame
from tests.support.oracle import STARTUP
from tests.support.recorded import decoder, load
from tests.support.sections import event

__all__ = ["HEAD", "TARGETS", "check_frame", "check_line", "check_raw"]

HEAD = json.dumps(STARTUP).encode() + b"\n"
_STYLES = (Style(), Style(multi_line=False, link_layer=True, utc=True))


def _clean(text: str) -> None:
    """Refuse what could drive a terminal."""
    rest = text.replace("\n", "")
    assert visible(rest) == rest, [char for char in rest if visible(char) != char]


def _printed(path: Path, style: Style) -> tuple[str, str]:
    """Text and error of ``retis print``, which must be those of reading event by event."""
    with path.with_suffix(".out").open("w+b") as out:
        error = ""
        try:
            print_events(EventReader(path, Event), style, out.fileno())
        except RetisError as caught:
            error = str(caught)
        text = path.with_suffix(".out").read_text()
    renderer, plain, problem = TextRenderer(style), [], ""
    try:
        for item in EventReader(path, Event):
            if item.common is not None:
                plain.append(renderer.event(item) + ("\n\n" if style.multi_line else "\n"))
    except RetisError as caught:
        problem = str(caught)
    assert (text, error) == ("".join(plain), problem)
    _clean(text)
    return text, error


def check_line(line: bytes, directory: Path) -> str:
    """Run all commands on a file with *line* in the middle; what ``print`` said of it."""
    path = directory / "events.data"
    path.write_bytes(HEAD + line + b"\n" + HEAD)
    said = [_printed(path, style) for style in _STYLES]
    for command in (_pcap, _stats, _sort_to_file, _sort_to_text):
        try:
            command(path)
        except RetisError as caught:
            assert str(caught)
    return "".join(said[0])


def _pcap(path: Path) -> None:
    export(str(path), io.BytesIO)


def _stats(path: Path) -> None:
    _clean("\n".join(render(count_file(str(path))[0])))


def _sort_to_file(path: Path) -> None:
    out = path.with_suffix(".sorted")
    try:
        with SeriesWriter(str(out)) as writer:
            sort_file(EventReader(path, SortEvent), writer.write, 2)
    finally:
        for line in out.read_bytes().splitlines():
            json.loads(line)


def _sort_to_text(path: Path) -> None:
    out = io.BytesIO()
    try:
        with SeriesPrinter(out, Style(link_layer=True)) as printer:
            sort_file(EventReader(path, Event), printer.write, 2)
    finally:
        _clean(out.getvalue().decode())


def check_raw(raw: bytes) -> str:
    """Decode *raw* as a run like that of the recordings would; its text, or why it is refused."""
    try:
        event = decoder(load("ping_drop")).decode(raw)
    except MalformedEvent as error:
        return str(error)
    assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event
    text = "\n".join(to_text(event, style) for style in _STYLES)
    _clean(text)
    return text


def check_frame(data: bytes) -> str:
    """The text of the packet *data*, with its link layer."""
    _clean(packet_text(data))
    text = packet_text(data, True)
    _clean(text)
    return text


_ODD: tuple[Any, ...] = (None, True, -1, 0, 255, 256, 1 << 16, 1 << 32, 1 << 63, 1 << 64, -(1 << 63) - 1, 1e400)
_ODD += (0.5, 10**30, "", "\0", "\x1b[2J", "a\nb", "\u202e", "\ud800", "\u2028", "A", "AAAA", [], {}, [[]], "é" * 300)


def _mutate(rng: random.Random, data: bytes, most: int = 4) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(0, most)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            del out[at:]
        elif kind == 1:
            del out[at : at + rng.randint(1, 8)]
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.randint(1, 4))
        elif at < len(out):
            out[at] = rng.choice((0, 1, 0xFF, 0x7F, 0x80, rng.randrange(256), out[at] ^ 1 << rng.randrange(8)))
    return bytes(out)


def _places(value: Any, out: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    for key in value if isinstance(value, dict) else range(len(value)):
        out.append((value, key))
        if isinstance(value[key], (dict, list)):
            _places(value[key], out)
    return out


def _line(rng: random.Random) -> bytes:
    value = event(rng)
    for _ in range(rng.randint(0, 3)):
        where, key = rng.choice(_places(value, []))
        if rng.random() < 0.2 and isinstance(where, dict):
            del where[key]
        elif rng.random() < 0.1:
            where[key] = rng.choice(_places(event(rng), []))[0]
        else:
            where[key] = copy.copy(rng.choice(_ODD))
    line = json.dumps(value, separators=(",", ":"), ensure_ascii=rng.random() < 0.5)
    data = line.encode("utf-8", "surrogatepass")
    return (data if rng.random() < 0.6 else _mutate(rng, data)).replace(b"\n", b" ")


def _raw(rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        recorded = load(rng.choice(("ping_xmit", "ping_receive", "ping_drop")))
        raw = bytearray(_mutate(rng, recorded.raw))
        raw[8:9] = bytes(byte & ~1 for byte in raw[8:9])
        return bytes(raw)
    # any sections, with the size they must have and any content; stack ids need a session
    sections = rng.getrandbits(len(PARTS)) & rng.getrandbits(len(PARTS)) & ~1
    code = "=" + HEADER.format.lstrip("=")
    fill: Callable[[int], bytes] = rng.choice((rng.randbytes, bytes, lambda size: b"\xff" * size))
    tail = b""
    body = b""
    for bit, part in enumerate(PARTS):
        if sections >> bit & 1:
            layout = bytearray(fill(struct.calcsize("=" + part.layout.code())))
            if part.layout.tail:
                tail = frame(rng)[:255]
                field = getattr(part.layout, part.layout.tail)
                layout[field.offset : field.offset + field.size] = len(tail).to_bytes(field.size, sys.byteorder)
            body += layout
    head = bytearray(fill(struct.calcsize(code)))
    head[8:12] = sections.to_bytes(4, sys.byteorder)
    head[12:14] = bytes(2)
    return bytes(head) + body + tail


def _frame(rng: random.Random) -> bytes:
    return _mutate(rng, frame(rng), 8)


#: what to fuzz: generator of inputs, and their check
TARGETS: dict[str, tuple[Callable[[random.Random], bytes], Callable[[bytes], str]]] = {
    "line": (_line, lambda data: check_line(data, _DIRECTORY)),
    "raw": (_raw, check_raw),
    "frame": (_frame, check_frame),
}
_DIRECTORY = Path()


def main() -> None:
    global _DIRECTORY
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="|".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    targets = args.targets or list(TARGETS)
    logging.disable()
    with tempfile.TemporaryDirectory() as directory:
        _DIRECTORY = Path(directory)
        for target in targets:
            make, check = TARGETS[target]
            seen: set[str] = set()
            rng, runs = random.Random(args.seed), 0
            end = time.monotonic() + args.seconds / len(targets)
            while time.monotonic() < end:
                data = make(rng)
                runs += 1
                try:
                    check(data)
                except Exception as error:
                    where = traceback.extract_tb(error.__traceback__)[-1]
                    name = f"{type(error).__name__} {os.path.basename(where.filename)}:{where.lineno}"
                    if name not in seen:
                        seen.add(name)
                        print(f"# {target}: {name}: {str(error)[:300]}\n{data!r}", flush=True)
            print(f"# {target}: {runs} inputs, {len(seen)} kinds of failures", flush=True)


if __name__ == "__main__":
    main()
