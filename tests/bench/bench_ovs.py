"""What flow enrichment costs the path of events: look-ups decoded and encoded with and without it.

    python tests/bench/bench_ovs.py [--events N] [--flows N] [--rounds N]

Both take turns; what counts is the best of the rounds of each.

A daemon of its own process answers, at 1 ms each; requests are limited to 20 a second (the default) and to 1,000. The
look-ups are of as many flows, in turns: more than are asked for, which is the worst case.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from retis_py.collectors import Event
from retis_py.collectors.ovs import Ovs
from retis_py.collectors.ovs_enrich import FlowEnricher
from retis_py.collectors.parts import PARTS
from retis_py.collectors.unixctl import Unixctl
from retis_py.events.core import KernelSection
from retis_py.events.wire import HEADER, Decoder
from retis_py.events.writer import encode


def serve(path: str) -> int:
    """A process that answers as ovs-vswitchd would; returns its id."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    pid = os.fork()
    if pid:
        return pid
    while True:
        connection, _ = listener.accept()
        with contextlib.suppress(BrokenPipeError):
            answer(connection)


def answer(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(65536):
            time.sleep(0.001)
            request = json.loads(data)
            commands = "dpctl/get-flow\nofproto/detrace"
            text = commands if request["method"] == "list-commands" else "recirc_id(0),in_port(1), actions:2"
            connection.sendall(json.dumps({"id": request["id"], "result": text, "error": None}).encode())


def raws(events: int, flows: int) -> list[bytes]:
    bit = next(number for number, part in enumerate(PARTS) if part.name == "ovs_lookup")
    out = []
    for number in range(events):
        flow = number % flows
        header = HEADER.pack(1_000_000 + number, 1 << bit, 0, 0, 0, b"ping")
        out.append(header + struct.pack("=QQ4III", 0xFFFF0000 + flow, 0xFFFE0000 + flow, flow, 2, 3, 4, 1, 0))
    return out


def rate(data: list[bytes], ovs: Ovs) -> float:
    ovs._lookups.cache_clear()
    decode = Decoder(Event, PARTS, ovs.maker, [KernelSection("ovs_flow_tbl_lookup_stats", "kretprobe")]).decode
    began = time.perf_counter()
    for raw in data:
        encode(decode(raw))
    return len(data) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--flows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "control"
        pid = serve(str(path))
        for flows in (100, args.flows):
            data = raws(args.events, flows)
            for limit in (20, 1000):
                pairs = []
                for _ in range(args.rounds):
                    plain = rate(data, Ovs())
                    ovs = Ovs()
                    ovs._enricher = FlowEnricher(Unixctl(path), limit, forget=ovs._lookups.cache_clear)
                    ovs._enricher.connect()
                    ovs._enricher.start()
                    pairs.append((rate(data, ovs), plain))
                    ovs._enricher.stop()
                enriched, plain = (max(column) for column in zip(*pairs))
                print(
                    f"{flows:>6} flows, {limit:>4} requests/s: {enriched:>9,.0f} events/s with enrichment,"
                    f" {plain:>9,.0f} without, ratio {enriched / plain:.2f}"
                )
        os.kill(pid, 9)


if __name__ == "__main__":
    main()
