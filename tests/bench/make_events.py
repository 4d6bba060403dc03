"""Make a large event file from a small one: every round has its own times and tracking ids.

    python tests/bench/make_events.py SOURCE COUNT OUT [--vary]

COUNT events of format 1.7.0 are made from those of SOURCE that have a packet. With ``--vary`` each round also has
its own IP identification, addresses, hash and lengths, so that no packet text is ever seen twice: the worst case
for anything that remembers.
"""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STARTUP = {
    "common": {"timestamp": 30415793489711},
    "startup": {
        "retis_version": "v1.7.0",
        "cmdline": "retis collect -c all -o",
        "clock_monotonic_offset": {"sec": 1742309146, "nsec": 691042000},
        "machine": {"kernel_release": "6.12.0", "kernel_version": "#1 SMP", "hardware_name": "x86_64"},
    },
}
#: distance between two rounds, in ns: more than a round of the source lasts
ROUND = 2_000_000_000


def _vary(event: dict[str, Any], number: int) -> None:
    frame = bytearray(base64.b64decode(event["packet"]["data"]))
    frame[18:20] = (number & 0xFFFF).to_bytes(2, "big")
    frame[27:30] = frame[31:34] = (number & 0xFFFFFF).to_bytes(3, "big")
    event["packet"]["data"] = base64.b64encode(frame).decode()
    event["skb"]["meta"]["hash"] = number * 2654435761 & 0xFFFFFFFF
    event["skb"]["meta"]["csum"] = number


def events(source: Path, count: int, vary: bool = False) -> Iterator[dict[str, Any]]:
    """The startup event, then *count* events."""
    yield STARTUP
    lines = source.read_text().splitlines()
    number = 0
    while True:
        shift = number // 26 * ROUND
        for line in lines:
            event = json.loads(line)
            if "packet" not in event:
                continue
            if number == count:
                return
            event["common"]["timestamp"] += shift
            event["skb-tracking"]["timestamp"] += shift
            ovs = event.get("ovs", {})
            if "upcall_ts" in ovs:
                ovs["upcall_ts"] += shift
            if vary:
                _vary(event, number)
            number += 1
            yield event


def write(source: Path, count: int, out: Path, vary: bool = False) -> None:
    with out.open("w") as file:
        for event in events(source, count, vary):
            file.write(json.dumps(event, separators=(",", ":")) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vary", action="store_true")
    args = parser.parse_args()
    write(args.source, args.count, args.out, args.vary)


if __name__ == "__main__":
    main()
