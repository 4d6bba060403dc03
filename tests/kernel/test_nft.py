"""nft: what real rules decide, told with their handles, and nothing of ours left in the ruleset."""

from __future__ import annotations

import json
import re
import signal
import socket

import pytest

from tests.support.collect import retis
from tests.support.events import frame, tracking_id
from tests.support.namespaces import run, wait_for

TRACE = "kprobe:__nft_trace_packet"
TREE = """
table ip t {
    chain deep {
        log prefix "deep # handle 9" counter comment "{ odd }"
        accept
    }
    chain sub {
        counter
        icmp type echo-request return
        tcp dport 80 goto deep
    }
    chain refuse { ip saddr { 10.0.42.1, 10.0.42.9 } udp dport 5000 drop; }
    chain input {
        type filter hook input priority 0; policy drop;
        meta l4proto { icmp, tcp } jump sub
        jump refuse
        icmp type { echo-request, echo-reply } counter accept
    }
    chain output {
        type filter hook output priority 0; policy accept;
        tcp sport 80 counter
    }
}
"""
#: names as long as they are told (127 bytes), longer, and of characters nft itself would not take
ODD, LONG, LONGER = 'a "b" \u00e9\x01', "l" * 127, "m" * 200


def _odd_rules() -> str:
    family = {"family": "ip", "table": ODD}
    base = {"type": "filter", "hook": "output", "prio": 10, "policy": "accept"}
    jump = {"expr": [{"jump": {"target": LONGER}}]}
    commands = [
        {"table": {"family": "ip", "name": ODD}},
        {"chain": {**family, "name": LONGER}},
        {"chain": {**family, "name": LONG, **base}},
        {"rule": {**family, "chain": LONG, **jump}},
    ]
    return json.dumps({"nftables": [{"add": command} for command in commands]})


class Ruleset:
    """What ``nft -a -j list ruleset`` says of the handles in a namespace."""

    def __init__(self, ns):
        listed = json.loads(ns.run("nft", "-a", "-j", "list", "ruleset"))["nftables"]
        self.tables = {e["table"]["name"]: e["table"]["handle"] for e in listed if "table" in e}
        self.chains = {(e["chain"]["table"], e["chain"]["name"]): e["chain"]["handle"] for e in listed if "chain" in e}
        self.rules = {}
        for entry in listed:
            if "rule" in entry:
                rule = entry["rule"]
                self.rules.setdefault((rule["table"], rule["chain"]), []).append(rule["handle"])

    def verdict(self, chain, rule, verdict, target=None, policy=False):
        """What an event must say of the *rule*-th rule of a chain of table t."""
        expected = {
            "table_name": "t",
            "chain_name": chain,
            "verdict": verdict,
            "verdict_chain_name": target,
            "table_handle": self.tables["t"],
            "chain_handle": self.chains["t", chain],
            "rule_handle": None if rule is None else self.rules["t", chain][rule],
            "policy": policy,
        }
        return {key: value for key, value in expected.items() if value is not None}


def _ours() -> bool:
    return "Retis_Table" in run("nft", "list", "tables")


def _by_packet(run):
    """The nft sections of each packet, in order, without the text of rules."""
    packets = {}
    for event in run.at("__nft_trace_packet"):
        section = {key: value for key, value in event["nft"].items() if key != "rule"}
        packets.setdefault(tracking_id(event), (frame(event), []))[1].append(section)
    return list(packets.values())


def _kind(data: bytes) -> str:
    protocol, ports = data[23], data[34:38]
    if protocol == 1:
        return {8: "request", 0: "reply"}[data[34]]
    if protocol == 6:
        return "to 80" if ports[2:] == b"\0\x50" else "from 80"
    return f"udp {int.from_bytes(ports[2:], 'big')}"


def test_chain_tree_gives_verdicts_with_the_handles_nft_lists(two_ns, collect):
    two_ns.b.run("nft", "-f", "-", input=TREE)
    two_ns.b.run("nft", "-j", "-f", "-", input=_odd_rules())
    rules = Ruleset(two_ns.b)
    everything = ("--nft-verdicts", "all", "--allow-system-changes")
    with collect("-c", "nft,skb,skb-tracking,ns", "-f", "ip", *everything) as run:
        assert _ours()
        two_ns.a.ping(two_ns.b_address)
        two_ns.b.ping(two_ns.a_address)
        two_ns.tcp(80)
        two_ns.a.send_udp(two_ns.b_address, 5000)
        two_ns.a.send_udp(two_ns.b_address, 6000)
        # a rule of which nothing was known at the start; sent until its text has been found out
        two_ns.b.run("nft", "insert rule ip t input udp dport 7000 counter drop")

        def told():
            before = len(run.lines)
            two_ns.a.send_udp(two_ns.b_address, 7000)
            wait_for(lambda: len(run.lines) > before, "event of the new rule")
            return json.loads(run.lines[-1])["nft"].get("rule") == "udp dport 7000 counter drop"

        wait_for(told, "text of the new rule")
        run.stop(signal.SIGTERM)
    assert run.returncode == 0, run.stderr
    assert not _ours()
    assert {event["netns"]["inum"] for event in run.events} == {two_ns.b.inum}

    v = rules.verdict
    sub, refuse = v("input", 0, "jump", "sub"), v("input", 1, "jump", "refuse")
    end = {chain: v(chain, None, "continue") for chain in ("sub", "refuse", "input", "output")}
    request = [sub, v("sub", 0, "continue"), v("sub", 1, "return"), refuse, end["refuse"], v("input", 2, "accept")]
    reply = [sub, v("sub", 0, "continue"), end["sub"], refuse, end["refuse"], v("input", 2, "accept")]
    http = [sub, v("sub", 0, "continue"), v("sub", 2, "goto", "deep"), v("deep", 0, "continue"), v("deep", 1, "accept")]
    out = [end["output"], v("output", None, "accept", policy=True)]
    answer = [v("output", 0, "continue"), *out]
    dropped = [refuse, end["refuse"], end["input"], v("input", None, "drop", policy=True)]

    got = {}
    for data, sections in _by_packet(run):
        got.setdefault(_kind(data), []).append([s for s in sections if s["table_name"] == "t"])
    assert got["request"] == [request, out]  # a's comes in, b's goes out
    assert got["reply"] == [out, reply]
    assert got["to 80"] == [http] * 4  # SYN, ACK, FIN, ACK
    assert got["from 80"] == [answer] * 3
    assert got["udp 5000"] == [[refuse, v("refuse", 0, "drop")]]
    assert got["udp 6000"] == [dropped]

    odd = [e["nft"] for e in run.events if e["nft"]["table_handle"] == rules.tables[ODD]]
    assert {s["table_name"] for s in odd} == {ODD} and {s["chain_name"] for s in odd} == {LONG, LONGER[:127]}
    assert {s["verdict_chain_name"] for s in odd if s["verdict"] == "jump"} == {LONGER[:127]}
    assert {s["chain_handle"] for s in odd} == {rules.chains[ODD, LONG], rules.chains[ODD, LONGER]}

    # every rule's text is a line of nft's own list of them, and upstream reads the file without it
    listed = {line.strip() for line in two_ns.b.run("nft", "-a", "-s", "list", "ruleset").splitlines()}
    tree = [e["nft"] for e in run.events if "rule_handle" in e["nft"] and e["nft"]["table_name"] == "t"]
    known = [s for s in tree if "rule" in s]
    assert len(known) >= 28 and [s for s in tree[:28] if "rule" not in s] == []
    assert {f"{s['rule']} # handle {s['rule_handle']}" for s in known} <= listed
    assert run.printed() == run.read_by_upstream().replace("\x01", "\\x01")  # ours never writes control characters
    handle = rules.rules["t", "deep"][0]
    assert f'handle {handle} continue rule [log prefix "deep # handle 9" counter comment "{{ odd }}"]\n' in run.printed(
        "--nft-rules"
    )


def test_udp_to_a_dropped_port_is_followed_from_delivery_to_its_drop(two_ns, collect):
    two_ns.b.run(
        "nft",
        "-f",
        "-",
        input="""
        table inet filter {
            chain ports { udp dport 5353 counter drop; udp dport 5354 counter; }
            chain input { type filter hook input priority 0; policy accept; meta l4proto udp jump ports; }
        }""",
    )
    rules = Ruleset(two_ns.b)
    send = f"for port in 5353 5354; do echo x > /dev/udp/{two_ns.b_address}/$port; done"
    command = f"ip netns exec {two_ns.a.name} bash -c '{send}'"
    probes = ("-p", "ip_local_deliver", "-p", "tp:skb:kfree_skb")
    with two_ns.b:
        server = socket.socket(type=socket.SOCK_DGRAM)
        server.bind((two_ns.b_address, 5354))
    with server, collect("-c", "auto", "-f", "udp", *probes, "--allow-system-changes", "--cmd", command) as run:
        assert _ours()
        assert run.wait() == 0, run.stderr
    assert not _ours()
    assert re.search(r"^Collector\(s\) started: .*\bnft\b", run.stderr, re.MULTILINE)
    # default verdicts: the jump and what goes on after the counter are not told
    sections = [event["nft"] for event in run.at("__nft_trace_packet")]
    drop, accept = sections
    assert (drop["verdict"], drop["chain_name"], drop["policy"]) == ("drop", "ports", False)
    assert drop["rule_handle"] == rules.rules["filter", "ports"][0]
    assert (accept["verdict"], accept["chain_name"], accept["policy"]) == ("accept", "input", True)
    assert "rule_handle" not in accept

    done = retis("sort", run.path)
    assert done.returncode == 0, done.stderr
    (dropped,) = [series for series in done.stdout.split("\n\n") if "2.5353 " in series]
    handles = rf"table filter \({drop['table_handle']}\) chain ports \({drop['chain_handle']}\)"
    pattern = rf"""\d+ \(\d\) \[bash\] [\d/]+ \[k\] ip_local_deliver (#\w+ \(skb \w+\)) n 0
  10.0.42.1.\d+ > 10.0.42.2.5353 .* proto UDP .*
  ns .* if .*
  ↳ \d+ \(\d\) \[bash\] [\d/]+ \[k\] __nft_trace_packet \1 n 1
      10.0.42.1.\d+ > 10.0.42.2.5353 .*
      ns .* if .*
      {handles} handle {drop["rule_handle"]} drop
  ↳ \d+ \(\d\) \[bash\] [\d/]+ \[tp\] skb:kfree_skb \1 n 2 drop \(reason NETFILTER_DROP\)
      10.0.42.1.\d+ > 10.0.42.2.5353 .*
      ns .* if .*"""
    assert re.fullmatch(pattern, dropped), dropped


@pytest.mark.one_kernel
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signal_leaves_the_ruleset_as_it_was(collect, number):
    before = run("nft", "list", "ruleset")
    with collect("-c", "nft", "--allow-system-changes") as running:
        assert _ours()
        running.stop(number)
    assert running.returncode == 0, running.stderr
    assert run("nft", "list", "ruleset") == before


def test_rule_far_from_the_end_of_a_long_chain_is_named_by_its_listing(two_ns, collect):
    """The BPF side looks at 512 rules for the end of a chain; since Linux 6.4 its name is nowhere else."""
    rules = "\n".join(["udp dport 5001 drop", *["udp dport 1 counter"] * 700, "udp dport 5002 drop"])
    chains = f"chain long {{ {rules}\n}}\nchain input {{ type filter hook input priority 0; jump long; }}"
    two_ns.b.run("nft", "-f", "-", input=f"table ip t {{ {chains}\n}}")
    known = Ruleset(two_ns.b)
    handles = known.rules["t", "long"]
    with collect("-c", "nft,skb", "-f", "udp", "--allow-system-changes") as running:

        def told():
            before = len(running.lines)
            two_ns.a.send_udp(two_ns.b_address, 5001)
            wait_for(lambda: len(running.lines) > before, "verdict of the first rule")
            return "rule" in json.loads(running.lines[-1])["nft"]

        wait_for(told, "text of the first rule")
        two_ns.a.send_udp(two_ns.b_address, 5002)
    *_, first, last = [event["nft"] for event in running.events]
    assert first == {**known.verdict("long", 0, "drop"), "rule": "udp dport 5001 drop"}
    assert last == {**known.verdict("long", 701, "drop"), "rule": "udp dport 5002 drop"}
    assert first["rule_handle"] == handles[0] and last["rule_handle"] == handles[-1]
    # until its text is known nothing is known of the chain either, unless the kernel tells it: only its table is sure
    for event in running.events[:-2]:
        assert event["nft"]["table_name"] == "t"
        assert event["nft"]["rule_handle"] == handles[0]
        assert event["nft"]["chain_name"] in ("?", "long")


def test_rule_of_a_killed_run_is_removed_by_the_next_however_that_ends(collect, tmp_path):
    with collect("-c", "nft", "--allow-system-changes") as killed:
        killed.stop(signal.SIGKILL)
    assert _ours()
    # the disk is full: this run ends with an error
    ready = tmp_path / "ready"
    options = ("-c", "nft", "--allow-system-changes", "-o", "/dev/full", "--cmd", "true", "--ready-file", ready)
    done = retis("collect", *options)
    assert ready.exists() and done.returncode == 1 and "No space left" in done.stderr, done.stderr
    assert "Removed table inet Retis_Table, left behind by an earlier run" in done.stderr
    assert not _ours()
