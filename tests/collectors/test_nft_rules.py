"""The text of rules: what ``nft`` lists, found by handle, without holding up events."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retis_py.collectors.nft_rules import Namespaces, Rule, RuleTexts, parse_ruleset

LISTED = """\
# Warning: table ip nat is managed by iptables-nft, do not touch!
table ip t { # handle 1
	set s {
		type ipv4_addr
		elements = { 1.2.3.4,
				1.2.3.5 # handle 7
		}
	}

	chain d { # handle 2
		comment "in d { x } # handle 1"
		ip daddr { 1.2.3.4, 1.2.3.5,
				1.2.3.6 } accept comment "a # handle 9" # handle 9
	}

	chain c { # handle 3
		type filter hook input priority filter; policy drop;
		log prefix "x # handle 3" counter # handle 10
		jump d # handle 11
	}
}
table inet a "b" {c} { # handle 4
	chain e f { # handle 1
		drop # handle 2
	}
}
table ip broken
name { # handle 5
	chain c { # handle 1
		drop # handle 2
	}
}
"""


def test_rules_are_known_by_the_handles_of_their_table_and_their_own() -> None:
    assert parse_ruleset(LISTED) == {
        1: {
            9: Rule('ip daddr { 1.2.3.4, 1.2.3.5, 1.2.3.6 } accept comment "a # handle 9"', "d", 2),
            10: Rule('log prefix "x # handle 3" counter', "c", 3),
            11: Rule("jump d", "c", 3),
        },
        4: {2: Rule("drop", "e f", 1)},
    }


@pytest.mark.parametrize("cut", range(0, len(LISTED), 7))
def test_listing_that_was_cut_or_is_odd_gives_what_it_holds(cut: int) -> None:
    known = parse_ruleset(LISTED)
    for table, rules in parse_ruleset(LISTED[:cut]).items():
        # a handle may be cut short: 1 of 11
        assert all(known[table].get(handle) == rule for handle, rule in list(rules.items())[:-1])
    parse_ruleset(LISTED[cut:])


def test_ten_thousand_rules_are_parsed_in_a_moment() -> None:
    lines = [f"\t\tip saddr 10.{i >> 8}.{i & 255}.1 tcp dport {i} counter drop # handle {i + 3}" for i in range(10_000)]
    text = "\n".join(["table inet big { # handle 1", "\tchain c { # handle 1", *lines, "\t}", "}", ""])
    start = time.process_time()
    (rules,) = parse_ruleset(text).values()
    assert time.process_time() - start < 1  # 0.03 s where this was written
    assert len(rules) == 10_000 and rules[3].text == "ip saddr 10.0.0.1 tcp dport 0 counter drop"


class Fake(Namespaces):
    """Namespaces 1, 2, ... that need not be entered; `entered` is where the listing thread is."""

    def __init__(self, count: int) -> None:
        super().__init__(by_cookie=True)
        self.count = count
        self.entered = 0

    def paths(self):
        return iter(Path(str(number)) for number in range(1, self.count + 1))

    def enter(self, path):
        self.entered = int(path.name)
        return self.entered


class Texts(RuleTexts):
    """Lists `rulesets` by namespace; `listings` says of which, `hold` makes nft slow."""

    def __init__(self, namespaces, **options):
        super().__init__("nft", namespaces, **options)
        self.rulesets, self.listings = {}, []
        self.hold = threading.Event()
        self.hold.set()

    def _run(self):
        self.listings.append(self._namespaces.entered)
        self.hold.wait(10)
        handles = self.rulesets.get(self._namespaces.entered, ())
        rules = "".join(f"\t\tcounter accept # handle {handle}\n" for handle in handles)
        return f"table ip t {{ # handle 1\n\tchain c {{ # handle 2\n{rules}\t}}\n}}\n"


RULE = Rule("counter accept", "c", 2)


@pytest.fixture
def texts():
    made = []

    def make(namespaces=1, everything=False, rulesets=None, **options):
        texts = Texts(Fake(namespaces), **options)
        texts.rulesets = rulesets or {}
        made.append(texts)
        texts.start(everything)
        return texts

    yield make
    for each in made:
        each.hold.set()
        each.stop()


def test_first_event_of_a_rule_has_its_text(texts) -> None:
    known = texts(2, everything=True, rulesets={1: [7], 2: [8]})
    assert known.find(1, 1, 7) == RULE
    assert known.find(2, 1, 8) == RULE
    assert known.listings == [1, 2]
    late = texts(2, rulesets={2: [8]})
    assert late.listings == []  # nothing is listed before the first event
    assert late.find(2, 1, 8) == RULE
    assert late.listings == [2]


def test_unknown_handle_is_a_reason_to_list_again_but_not_time_and_again(texts) -> None:
    now = [0.0]
    known = texts(rulesets={1: [7]}, clock=lambda: now[0])
    assert known.find(1, 1, 7) == RULE
    known.rulesets[1] = [7, 8]
    for _ in range(1000):
        assert known.find(1, 1, 8) is None
    assert known.listings == [1]
    now[0] = 1.0
    assert known.find(1, 1, 8) == RULE
    # a handle that is in no listing is asked for ever more rarely
    for second in range(1, 601):
        now[0] = second / 1.0
        known.find(1, 1, 99)
        known._changed.acquire()
        known._changed.wait_for(lambda: not known._working, 5)
        known._changed.release()
    assert 5 < len(known.listings) < 22


def test_slow_nft_holds_events_up_for_a_quarter_of_a_second_at_most(texts) -> None:
    known = texts(rulesets={1: [7]})
    known.hold.clear()
    start = time.monotonic()
    for _ in range(2000):
        assert known.find(1, 1, 7) is None
    assert 0.2 < time.monotonic() - start < 0.9
    known.hold.set()
    while known.find(1, 1, 7) is None:
        assert time.monotonic() < start + 10
        time.sleep(0.01)
    assert known.listings == [1]


def test_waiting_takes_a_tenth_of_the_time_at_most(texts) -> None:
    """On a host where namespaces come and go, each event comes from a new one, and each listing is slow."""
    now, waits = [0.0], []
    known = texts(clock=lambda: now[0])
    known.stop()  # so that no listing ends

    def wait_for(fact, patience):
        waits.append(now[0])
        now[0] += patience
        return fact()

    known._stopping, known._changed.wait_for = False, wait_for
    for net in range(1, 10_001):
        known.find(net, 1, 7)
        now[0] += 0.01
    assert len(waits) * 0.25 <= now[0] / 10 + 0.25
    assert min(later - earlier for earlier, later in zip(waits, waits[1:])) >= 2.5
    assert len(waits) > 30


def test_namespaces_that_come_and_go_are_forgotten_the_oldest_first(texts) -> None:
    now = [0.0]
    known = texts(2000, rulesets={net: [7] for net in range(1, 2001)}, clock=lambda: now[0])
    for net in range(1, 1001):
        assert known.find(net, 1, 7) == RULE
        assert known.find(1, 1, 7) == RULE
        assert len(known._listed) <= 256
    assert known._known(500, 1, 7) is None
    assert known._known(1000, 1, 7) == RULE
    # what was forgotten is found out again at once
    assert known.find(500, 1, 7) == RULE


def test_stop_does_not_wait_for_nft(tmp_path: Path) -> None:
    nft = tmp_path / "nft"
    nft.write_text("#!/bin/sh\nexec sleep 60\n")
    nft.chmod(0o755)
    known = RuleTexts(str(nft), Fake(1))
    known.start(everything=True)
    while known._running is None:
        time.sleep(0.01)
    start = time.monotonic()
    known.stop()
    assert known._thread is not None and not known._thread.is_alive()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("script", ["#!/bin/sh\necho oops >&2; exit 1\n", "#!/nonexistent\n", None])
def test_nft_that_fails_costs_the_texts_only(tmp_path: Path, script: str | None) -> None:
    nft = tmp_path / "nft"
    if script is not None:
        nft.write_text(script)
        nft.chmod(0o755)
    known = RuleTexts(str(nft), Fake(1))
    known.start(everything=True)
    assert known.find(1, 1, 7) is None
    known.stop()


def test_namespaces_are_those_of_names_and_processes_each_once(tmp_path: Path) -> None:
    named, proc = tmp_path / "netns", tmp_path / "proc"
    for process in ("self", "1", "2", "irq"):
        (proc / process / "ns").mkdir(parents=True)
    named.mkdir()
    for path in (proc / "self/ns/net", proc / "2/ns/net", named / "blue"):
        path.write_text("")
    os.link(proc / "self/ns/net", proc / "1/ns/net")
    os.link(named / "blue", named / "alias")
    found = list(Namespaces(True, named, proc).paths())
    assert found[0] == proc / "self/ns/net"
    assert sorted(path.stat().st_ino for path in found) == sorted(
        path.stat().st_ino for path in (proc / "self/ns/net", proc / "2/ns/net", named / "blue")
    )
    assert list(Namespaces(True, tmp_path / "none", tmp_path / "neither").paths()) == []


@contextlib.contextmanager
def real_ruleset(tmp_path: Path, rules: str) -> Iterator[Path]:
    """A network namespace with *rules*: the path to it."""
    file = tmp_path / "rules"
    file.write_text(rules)
    command = ["unshare", "-n", "sh", "-c", f"nft -f {file} && echo ready && exec cat"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        if process.stdout.readline() != b"ready\n":
            pytest.skip(f"nft cannot be used here: {process.stderr.read()!r}")
        yield Path(f"/proc/{process.pid}/ns/net")
        process.stdin.close()


def identity(namespaces: Namespaces, path: Path) -> int:
    """What events call the namespace at *path*; asked in a thread, which stays there."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(namespaces.enter, path).result()


def find(texts: RuleTexts, net: int, handle: int) -> Rule | None:
    """A rule of the only table of a namespace."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        listed = texts._listed.get(net)
        for table in (listed.ruleset if listed else None) or {0: {}}:
            if rule := texts.find(net, table, handle):
                return rule
        time.sleep(0.01)
    return None


REAL = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft")


@REAL
@pytest.mark.parametrize("by_cookie", [True, False])
def test_real_ruleset_is_found_in_the_namespace_of_a_process(tmp_path: Path, by_cookie: bool) -> None:
    rules = 'table ip t { chain c { tcp dport 80 counter accept comment "web"; }; }'
    with real_ruleset(tmp_path, rules) as path:
        namespaces = Namespaces(by_cookie)
        net = identity(namespaces, path)
        assert by_cookie or net == path.stat().st_ino
        texts = RuleTexts(shutil.which("nft") or "", namespaces)
        texts.start(everything=False)
        assert find(texts, net, 2) == Rule('tcp dport 80 counter accept comment "web"', "c", 1)
        texts.stop()


@REAL
def test_ten_thousand_rules_cost_the_start_nothing_and_the_first_event_less_than_two_seconds(tmp_path: Path) -> None:
    lines = "\n".join(f"ip saddr 10.0.{i >> 8}.{i & 255} tcp dport {i + 1} counter drop" for i in range(10_000))
    with real_ruleset(tmp_path, f"table ip t {{ chain c {{\n{lines}\n}}; }}") as path:
        namespaces = Namespaces(by_cookie=True)
        net = identity(namespaces, path)
        texts = RuleTexts(shutil.which("nft") or "", namespaces)
        begin = time.monotonic()
        texts.start(everything=True)
        assert time.monotonic() - begin < 0.2
        rule = find(texts, net, 10_001)
        assert time.monotonic() - begin < 2
        assert rule == Rule("ip saddr 10.0.39.15 tcp dport 10000 counter drop", "c", 1)
        texts.stop()
