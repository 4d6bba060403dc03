"""How a collection starts, is told to stop, and what it leaves behind."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.collect import retis
from tests.support.namespaces import run as run_command
from tests.support.namespaces import wait_for

RX = ("-c", "skb,dev", "-f", "icmp", "-p", "net:netif_rx")


def attached():
    """Names of loaded tracing programs and of kprobes, as the kernel lists them."""
    programs = json.loads(run_command("bpftool", "-j", "prog", "list"))
    tracing = [
        p.get("name") for p in programs if p["type"] in ("kprobe", "raw_tracepoint", "tracing", "perf_event")
    ]
    return sorted(map(str, tracing)), Path("/sys/kernel/tracing/kprobe_events").read_text()


def test_default_run_says_what_it_does(two_ns, collect):
    before = attached()
    with collect() as run:
        assert attached() != before
        two_ns.a.ping(two_ns.b_address)
    assert "No probe(s) given: using tp:net:netif_receive_skb, tp:net:net_dev_start_xmit\n" in run.stderr
    assert re.search(r"^Collector\(s\) started: .*skb-tracking", run.stderr, re.MULTILINE)
    assert re.search(r"^\d+ probe\(s\) loaded$", run.stderr, re.MULTILINE)
    assert "Received signal, terminating...\n" in run.stderr
    assert f"{len(run.events)} event(s) processed\n" in run.stderr
    symbols = {event["kernel"]["symbol"] for event in run.events}
    assert {"net:netif_receive_skb", "net:net_dev_start_xmit"} <= symbols
    assert attached() == before


@pytest.mark.one_kernel
def test_collector_without_probe_is_warned_about(two_ns, collect):
    with collect("-c", "skb") as run:
        two_ns.a.ping(two_ns.b_address)
    assert "WARN  no probe reports events: give some with --probe\n" in run.stderr
    assert run.events == []


@pytest.mark.one_kernel
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_a_collection_cleanly(two_ns, collect, number):
    with collect(*RX) as run:
        two_ns.a.ping(two_ns.b_address, 5)
        run.stop(number)
    assert run.returncode == 0
    assert len(run.events) == 10


@pytest.mark.one_kernel
def test_stop_after_counts_events(two_ns, collect):
    with collect(*RX, "--stop-after", 3) as run:
        two_ns.a.ping(two_ns.b_address, 5)
        run.wait()
    assert len(run.events) == 3
    assert "Reached stop count (3), terminating...\n" in run.stderr


@pytest.mark.one_kernel
def test_command_runs_once_probes_are_attached(two_ns, collect):
    command = f"ip netns exec {two_ns.a.name} ping -n -c 2 -i 0.1 {two_ns.b_address}; exit 3"
    with collect(*RX, "--cmd", command) as run:
        run.wait()
    assert len(run.events) == 4
    assert "Command returned (exit status: 3), terminating ...\n" in run.stderr


@pytest.mark.one_kernel
def test_killed_collection_leaves_a_readable_file(two_ns, collect):
    with collect(*RX) as run:
        two_ns.a.ping(two_ns.b_address, 20)
        wait_for(lambda: len(run.lines) > 2, "events in the file")
        run.stop(signal.SIGKILL)
    assert "veth-b" in run.printed()
    upstream = run.read_by_upstream()
    assert upstream == run.printed()


def test_events_of_all_cpus_are_in_order_of_time(two_ns, collect):
    probes = ("-p", "net:netif_rx", "-p", "net:net_dev_start_xmit")
    with collect("-c", "skb,dev", "-f", "icmp", *probes) as run:
        pings = [
            subprocess.Popen(
                [
                    "ip",
                    "netns",
                    "exec",
                    ns.name,
                    "taskset",
                    "-c",
                    cpu,
                    "ping",
                    "-nqc",
                    "100",
                    "-i",
                    "0.002",
                    to,
                ],
                stdout=subprocess.DEVNULL,
            )
            for cpu, ns, to in (("0", two_ns.a, two_ns.b_address), ("1", two_ns.b, two_ns.a_address))
        ]
        for ping in pings:
            assert ping.wait(120) == 0
    times = [event["common"]["timestamp"] for event in run.events]
    assert len(times) == 2 * 100 * 2 * 2  # pings, both ways, two probes
    assert times == sorted(times)
    assert {event["common"]["smp_id"] for event in run.events} == {0, 1}


def test_events_written_and_events_lost_add_up(two_ns, collect):
    """A flood while the reader stands still: every packet passes each of the probes once."""
    symbols = ("net:net_dev_start_xmit", "net:netif_receive_skb")
    options = ("-c", "skb", "-f", "udp port 5353", "--buffer-pages", 4)
    with collect(*options, *(word for symbol in symbols for word in ("-p", symbol))) as run:
        run.process.send_signal(signal.SIGSTOP)
        two_ns.a.send_udp(two_ns.b_address, 5353, count=2000)
        run.process.send_signal(signal.SIGCONT)
    losses = re.findall(r"^WARN  lost (\d+) event\(s\) from (\S+)\n  buffer full[^:]*: (.+)$", run.stderr, re.MULTILINE)
    lost = {symbol: int(count) for count, symbol, _ in losses}
    for symbol in symbols:
        assert 0 < len(run.at(symbol)) == 2000 - lost[symbol]
    for count, _, cpus in losses:
        assert sum(map(int, re.findall(r"CPU \d+: (\d+)", cpus))) == int(count)
    assert f"WARN  total events lost: {sum(lost.values())}\n" in run.stderr


@pytest.mark.one_kernel
def test_printed_events_are_those_of_the_file(two_ns, collect):
    with collect(*RX, "--print", "--utc", "-e") as run:
        two_ns.a.ping(two_ns.b_address)
    assert run.printed("--utc", "-e").endswith(run.stdout)
    assert (
        len(re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} .* \[tp\] net:netif_rx", run.stdout, re.M))
        == 2
    )
    assert "ethertype IPv4" in run.stdout


@pytest.mark.one_kernel
def test_without_file_events_are_printed(two_ns):
    command = f"ip netns exec {two_ns.a.name} ping -n -c 1 {two_ns.b_address}"
    done = retis("collect", *RX, "--format", "single-line", "--cmd", command)
    assert done.returncode == 0, done.stderr
    request, reply = done.stdout.splitlines()
    assert f" {two_ns.a_address} > {two_ns.b_address} " in request
    assert f" {two_ns.b_address} > {two_ns.a_address} " in reply


def test_wildcards_probe_all_that_match(two_ns, collect):
    with collect("-c", "skb", "-f", "icmp", "-p", "net:netif_r*x*", "-p", "ip_rcv*") as run:
        two_ns.a.ping(two_ns.b_address)
    symbols = {event["kernel"]["symbol"] for event in run.events}
    assert {"net:netif_rx", "net:netif_rx_entry", "ip_rcv"} <= symbols


def test_function_without_packet_is_left_out(collect):
    with collect("-c", "skb,dev", "-p", "schedule_timeout", "-p", "net:netif_rx") as run:
        pass
    reason = "as no collector could retrieve data from it"
    assert f"No probe was attached to schedule_timeout {reason}\n" in run.stderr
    assert {event["kernel"]["symbol"] for event in run.events} <= {"net:netif_rx"}


@pytest.mark.one_kernel
def test_generated_program_can_be_shown():
    done = retis("collect", "-c", "skb,dev", "-f", "icmp", "-p", "net:netif_rx", "--show-bpf")
    assert done.returncode == 0, done.stderr
    assert "SEC(" in done.stdout or "RAW_TRACEPOINT" in done.stdout or "int " in done.stdout


@pytest.mark.parametrize("profile", ["generic", "ifdump"])
def test_profile_shows_a_ping(two_ns, collect, profile):
    with collect(main=("-p", profile)) as run:
        two_ns.a.ping(two_ns.b_address)
    assert [event for event in run.events if event.get("dev", {}).get("name") == "veth-b"]


def test_drop_profile_shows_a_drop(two_ns, collect):
    with collect(main=("-p", "dropmon")) as run:
        two_ns.a.connect(two_ns.b_address, 443)
    (event,) = run.expect({"skb-drop": {"drop_reason": "NO_SOCKET"}})
    assert event["packet"]["len"] == 74
    assert any(line.startswith("tcp_v4_rcv+0x") for line in event["kernel"]["stack_trace"])
