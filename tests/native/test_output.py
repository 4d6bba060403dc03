"""Where events go: split files."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading

from tests.kernel.test_flood import ledger
from tests.support.collect import RETIS, retis
from tests.support.namespaces import wait_for

BURST = 30_000  # on each of two CPUs
FLOOD = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    s.sendto(bytes(60), (sys.argv[1], 7777))
"""
TRAFFIC = "ping -q -n -c 200 -i 0.002 127.0.0.1"


def test_split_files_hold_every_event_once(tmp_path):
    out = tmp_path / "retis.data"
    done = retis(
        *("collect", "-c", "skb,skb-tracking", "-f", "icmp", "-p", "net:net_dev_start_xmit"),
        *("-o", out, "--out-rotate", "1MB", "--skb-sections", "all", "--cmd", TRAFFIC + " -s 200 -c 1500"),
    )
    assert done.returncode == 0, done.stderr
    parts = sorted(tmp_path.iterdir(), key=lambda path: int(path.suffix[1:]))
    assert len(parts) > 1, "traffic must fill more than one file"
    assert f"Wrote {len(parts)} event file(s)" in done.stderr
    assert not out.exists()
    startups, seen = [], []
    for part in parts:
        assert part.stat().st_size <= 1_000_000
        first, *events = map(json.loads, part.read_text().splitlines())
        startups.append(first["startup"]["split_file"])
        seen += [event["common"]["timestamp"] for event in events]
    assert [split["id"] for split in startups] == list(range(len(parts)))
    assert len(seen) == 3000  # 1,500 requests and their answers
    assert seen == sorted(seen)


def test_sixty_thousand_events_wait_in_the_buffers_while_the_reader_stands_still(two_ns, collect):
    """16 MiB of buffers hold 60,000 events of 200 bytes."""

    def send(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread
        two_ns.a.send_udp(two_ns.b_address, 7777, bytes(60), BURST)

    options = ("-c", "skb,skb-tracking,dev", "-f", "udp port 7777", "-p", "net:net_dev_start_xmit")
    with collect(*options) as run:
        run.process.send_signal(signal.SIGSTOP)
        senders = [threading.Thread(target=send, args=(cpu,)) for cpu in sorted(os.sched_getaffinity(0))[:2]]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        run.process.send_signal(signal.SIGCONT)
    assert "lost" not in run.stderr
    assert len(run.lines) == 2 * BURST + 1  # and the startup event


def test_rotation_needs_a_file(tmp_path):
    done = retis("collect", "--out-rotate", "1MB", cwd=tmp_path)
    assert done.returncode == 2
    assert "'--out-rotate' needs '--out'" in done.stderr


def test_closing_the_terminal_ends_a_collection_in_good_order(tmp_path):
    ours, terminal = pty.openpty()
    out, ready = tmp_path / "retis.data", tmp_path / "ready"
    options = ("-c", "skb", "-p", "net:netif_receive_skb", "-o", out, "--print", "--ready-file", ready)
    command = ["setsid", "--ctty", RETIS, "collect", *options]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)
    try:
        os.close(terminal)
        wait_for(lambda: ready.exists() or process.poll() is not None, "probes attached")
        os.close(ours)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert out.read_bytes().endswith(b"\n")


def test_flood_that_the_reader_cannot_follow_can_be_ended_while_it_lasts(two_ns, collect):
    names = ("net_dev_queue", "net_dev_start_xmit", "net_dev_xmit", "netif_rx", "netif_receive_skb")
    probes = [word for name in names for word in ("-p", f"net:{name}")]
    options = ("-c", "skb,skb-tracking,dev,ns", "-f", "udp port 7777", "--buffer-pages", 64)
    with collect(*options, *probes, main=("--log-level", "debug")) as run:
        first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
        os.sched_setaffinity(run.process.pid, {first})
        sender = ("taskset", "-c", str(last), sys.executable, "-c", FLOOD, two_ns.b_address)
        flood = subprocess.Popen(["ip", "netns", "exec", two_ns.a.name, *sender])
        try:
            wait_for(lambda: "event(s) so far" in run.stderr, "losses told while collecting")
            run.stop()
            assert flood.poll() is None
        finally:
            flood.kill()
            flood.wait()
    passed, reported, lost, empty = ledger(run)
    assert reported == len(run.lines) - 1  # but for the startup event
    assert reported + lost + empty == passed
    assert f"WARN  total events lost: {lost}\n" in run.stderr
    assert lost > 0
