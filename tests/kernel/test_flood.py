"""More than the reader can follow: nothing is lost unseen, and the run can be ended all the same."""

import json
import re
import subprocess

from tests.support.namespaces import wait_for

PORT = 5201
COUNTER = f"""table ip flood {{
    chain in {{ type filter hook prerouting priority raw; tcp dport {PORT} counter; }};
}}
"""
LEDGER = re.compile(r"(\d+) hit\(s\) passed: (\d+) reported, (\d+) lost, (\d+) without anything to say")


def lost(run, symbol):
    """What the summary says of *symbol*."""
    told = re.findall(rf"WARN .*lost (\d+) event\(s\) from {re.escape(symbol)}$", run.stderr, re.MULTILINE)
    return sum(map(int, told))


def ledger(run):
    """(passed, reported, lost, empty), as the programs counted and as events came."""
    (line,) = LEDGER.findall(run.stderr)
    return tuple(map(int, line))


def test_written_and_lost_are_what_passed_while_iperf3_floods_every_skb_function(two_ns, collect):
    """Against nft's own counter: every packet to the server passes tp:net:netif_receive_skb once."""
    two_ns.b.run("nft", "-f", "-", input=COUNTER)
    probes = ("-p", "kprobe:*skb*", "-p", "net:netif_receive_skb")
    options = ("-c", "skb,skb-tracking", "-f", f"tcp dst port {PORT}", "--buffer-pages", 4)
    server = subprocess.Popen(
        ["ip", "netns", "exec", two_ns.b.name, "iperf3", "-s", "-1", "-p", str(PORT)], stdout=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: two_ns.b.run("ss", "-Hltn", f"sport = :{PORT}"), "iperf3 listens")
        with collect(*options, *probes, main=("--log-level", "debug")) as run:
            two_ns.a.run("iperf3", "-c", two_ns.b_address, "-p", PORT, "-n", "4M", "--connect-timeout", "60000")
            server.wait(120)
            wait_for(lambda: "event(s) so far" in run.stderr, "losses told while collecting")
    finally:
        server.kill()
    (rule,) = (
        item["rule"]
        for item in json.loads(two_ns.b.run("nft", "-j", "list", "table", "ip", "flood"))["nftables"]
        if "rule" in item
    )
    counted = next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)
    symbol = "net:netif_receive_skb"
    assert len(run.at(symbol)) + lost(run, symbol) == counted
    passed, reported, gone, empty = ledger(run)
    assert gone > 0
    assert reported == len(run.events)
    assert reported + gone + empty == passed
    assert "does not add up" not in run.stderr
    assert len({event["kernel"]["symbol"] for event in run.events}) > 5
