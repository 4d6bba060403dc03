"""How fast collection starts and keeps up, natively.

    python tests/bench/bench_collect.py [--seconds N] [--rates R,R,...]

*start*: whole processes; text generation and BCC compile in one process, import of bcc included. *decode*: recorded
raw events to JSON lines, on one core. *flood* (root, a kernel with tracepoints): UDP between two namespaces over a
veth pair at rising rates, default probes, all collectors, ``-o``; a packet passes three probes (sent, received,
dropped for a full socket). The sender runs on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
RETIS = Path(sys.executable).with_name("retis")

_COMPILE = """
import time; began = time.perf_counter()
from retis_py.kernel.collection import Collection, Options
from retis_py.kernel.session import Session
collection = Collection(Options()); collection.prepare(); text = collection.text()
generated = time.perf_counter()
Session(text, lambda raw: None, 8)
done = time.perf_counter()
print(generated - began, done - generated)
"""
_RECEIVER = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("10.9.0.2", 9999)); print("ready", flush=True)
time.sleep(3600)
"""
_SENDER = """
import socket, sys, time
rate, seconds = int(sys.argv[1]), float(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("10.9.0.2", 9999))
payload, sent, began = b"x" * 56, 0, time.monotonic()
while (now := time.monotonic()) < began + seconds:
    for _ in range(int((now - began) * rate) - sent):
        s.send(payload); sent += 1
    time.sleep(0.0005)
print(sent)
"""


def _median(runs: list[float]) -> float:
    return statistics.median(runs)


def start(rounds: int = 5) -> None:
    """Times of ``retis --help`` and of text generation plus compile."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        subprocess.run([RETIS, "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - began)
    print(f"retis --help                      {_median(times[1:]):6.3f} s")
    pairs = []
    for _ in range(rounds + 1):
        done = subprocess.run([sys.executable, "-c", _COMPILE], capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            print(f"text and compile: not possible here: {done.stderr.strip().splitlines()[-1]}")
            return
        pairs.append([float(word) for word in done.stdout.split()])
    text, compiled = (_median([pair[i] for pair in pairs[1:]]) for i in (0, 1))
    print(f"text of the default run           {text:6.3f} s (python imports and BTF included)")
    print(f"compile, import of bcc included   {compiled:6.3f} s")


def decode(events: int = 200_000) -> None:
    """Rate of decode plus JSON line, from recorded bytes."""
    from retis_py.events.writer import encode
    from tests.support.recorded import decoder, load

    recorded = load("ping_receive")
    decode_one = decoder(recorded).decode
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(events):
            encode(decode_one(recorded.raw))
        rates.append(events / (time.perf_counter() - began))
    sections = ", ".join(json.loads(recorded.json))
    print(f"decode and JSON, one core         {_median(rates):9,.0f} events/s ({sections})")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


class _Network:
    """Two namespaces joined by a veth pair, and a socket in one that nobody reads."""

    def __enter__(self) -> _Network:
        for name in ("bench-a", "bench-b"):
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
            _ip("netns", "add", name)
        _ip("link", "add", "va", "netns", "bench-a", "type", "veth", "peer", "name", "vb", "netns", "bench-b")
        for name, device, address in (("bench-a", "va", "10.9.0.1/24"), ("bench-b", "vb", "10.9.0.2/24")):
            _ip("-n", name, "addr", "add", address, "dev", device)
            _ip("-n", name, "link", "set", device, "up")
        self.receiver = subprocess.Popen(
            ["ip", "netns", "exec", "bench-b", sys.executable, "-c", _RECEIVER], stdout=subprocess.PIPE
        )
        assert self.receiver.stdout is not None
        self.receiver.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        self.receiver.kill()
        self.receiver.wait()
        for name in ("bench-a", "bench-b"):
            subprocess.run(["ip", "netns", "del", name])


def flood(rates: list[int], seconds: float) -> None:
    """Events written and lost at rising packet rates."""
    if os.geteuid() != 0:
        print("flood: needs root")
        return
    with _Network(), tempfile.TemporaryDirectory() as folder:
        print("packets/s sent   events/s written   lost")
        for rate in rates:
            ready, errors = Path(folder, "ready"), Path(folder, "errors")
            ready.unlink(missing_ok=True)
            command = [RETIS, "collect", "-f", "udp port 9999", "-o", Path(folder, "out"), "--ready-file", ready]
            with errors.open("w") as stderr:
                collect = subprocess.Popen(command, stderr=stderr)
            while not ready.exists():
                if collect.poll() is not None:
                    print(f"flood: not possible here: {errors.read_text().strip().splitlines()[-1]}")
                    return
                time.sleep(0.01)
            sender = ["ip", "netns", "exec", "bench-a", sys.executable, "-c", _SENDER, str(rate), str(seconds)]
            sent = int(subprocess.run(sender, capture_output=True, text=True, check=True).stdout)
            collect.send_signal(signal.SIGINT)
            collect.wait()
            said = errors.read_text()
            written = int(re.search(r"(\d+) event\(s\) processed", said)[1])
            lost = re.search(r"total events lost: (\d+)", said)
            share = int(lost[1]) if lost else 0
            print(f"{sent / seconds:14,.0f}   {written / seconds:16,.0f}   {share:,} of {written + share:,}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rates", default="20000,30000,40000,50000,60000")
    arguments = parser.parse_args()
    start()
    decode()
    flood([int(rate) for rate in arguments.rates.split(",")], arguments.seconds)
