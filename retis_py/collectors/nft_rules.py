"""The text of nftables rules, as ``nft list ruleset`` prints it, found by the handles the kernel reports.

A handle is never used twice: those of rules are counted per table, those of tables per kernel or namespace. A ruleset
that was listed therefore stays right for what it knows, and a handle it does not know is the reason to list it again.
Listing happens in a thread of its own, which enters the network namespaces; the path of events waits for it for a
moment now and then at most.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Namespaces", "Rule", "RuleTexts", "find_nft", "parse_ruleset"]

_log = logging.getLogger(__name__)

#: seconds one ``nft`` may take
_NFT_PATIENCE = 30.0
#: seconds between two listings of a namespace for the sake of unknown handles; doubled while they bring nothing new
_PAUSE, _LONGEST_PAUSE = 1.0, 64.0
#: seconds an event waits for its rule, and from the beginning of one such wait to the next in times what it took: a
#: tenth of the time is spent waiting at most
_WAIT, _BETWEEN_WAITS = 0.25, 10
#: namespaces that are remembered; the one not asked about for longest is forgotten first
_REMEMBERED = 256
#: namespaces listed at the start; others when an event comes from there
_AT_START = 64

_SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h
_CLONE_NEWNET = 0x40000000


class Rule(NamedTuple):
    """A rule as ``nft`` lists it."""

    #: without counters' values
    text: str
    chain: str
    chain_handle: int


#: table handle -> rule handle -> rule
Ruleset = Mapping[int, Mapping[int, Rule]]

_TABLE = re.compile(r"table .* \{ # handle (\d+)$")
_CHAIN = re.compile(r"\tchain (.*) \{ # handle (\d+)$")
_RULE = re.compile(r"(.*) # handle (\d+)$", re.DOTALL)


def parse_ruleset(text: str) -> Ruleset:
    """The rules in the output of ``nft -a -s list ruleset``.

    Two tabs begin what is in a chain. A rule may go over several lines, the last of which ends with its handle; names
    and comments may hold anything, so what is not understood is left out.
    """
    tables: dict[int, dict[int, Rule]] = {}
    table: dict[int, Rule] | None = None
    chain: tuple[str, int] | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith("\t\t"):
            if table is None or chain is None:
                continue
            if not lines and (line.startswith("\t\tcomment ") or (line.startswith("\t\ttype ") and line[-1] == ";")):
                continue
            lines.append(line.strip())
            rule = _RULE.match(line)
            if rule:
                lines[-1] = rule[1].strip()
                table[int(rule[2])] = Rule(" ".join(lines), *chain)
                lines = []
        elif line.startswith("\tchain "):
            found = _CHAIN.match(line)
            chain, lines = (found[1], int(found[2])) if found else None, []
        elif line == "\t}":
            chain, lines = None, []
        elif line == "}":
            table = chain = None
        elif line.startswith("table "):
            found = _TABLE.match(line)
            table = tables.setdefault(int(found[1]), {}) if found else None
    return tables


def find_nft() -> str | None:
    """The ``nft`` program; administrators' directories are not on everybody's PATH."""
    return shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin:/usr/local/sbin")


class Namespaces:
    """The network namespaces that can be entered: our own, the named ones, those of processes."""

    def __init__(self, by_cookie: bool, named: Path = Path("/run/netns"), proc: Path = Path("/proc")) -> None:
        #: what tells namespaces apart: their cookie, unique; without it the inode number, used again
        self.by_cookie = by_cookie
        self._named, self._proc = named, proc

    def paths(self) -> Iterator[Path]:
        """A path for each namespace, our own first."""
        seen: set[int] = set()
        candidates = [self._proc / "self/ns/net"]
        for directory, inner in ((self._named, ""), (self._proc, "ns/net")):
            try:
                names = os.listdir(directory)
            except OSError:
                continue
            candidates += [directory / name / inner for name in names if not inner or name.isdigit()]
        for path in candidates:
            try:
                inode = os.stat(path).st_ino
            except OSError:
                continue
            if inode not in seen:
                seen.add(inode)
                yield path

    def enter(self, path: Path) -> int | None:
        """Move the calling thread there; what identifies the namespace in events, None if it cannot be entered."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
                return None
            if not self.by_cookie:
                return os.fstat(fd).st_ino
            with socket.socket(socket.AF_UNIX) as any_socket:
                cookie = any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
                return int.from_bytes(cookie, "little" if sys.byteorder == "little" else "big")
        except OSError:
            return None
        finally:
            os.close(fd)


@dataclass
class _Listed:
    """A namespace: its rules, when it may be listed again, and the pause after that."""

    ruleset: Ruleset = field(default_factory=dict)
    due: float = 0.0
    pause: float = _PAUSE


class RuleTexts:
    """Rules by namespace, table and handle. *nft* is the program that lists them.

    `start` and `stop` frame its use; `find` may be called in between.
    """

    def __init__(self, nft: str, namespaces: Namespaces, clock: Callable[[], float] = time.monotonic) -> None:
        self._nft, self._namespaces, self._clock = nft, namespaces, clock
        #: what is known of namespaces, those asked about last at the end
        self._listed: dict[int, _Listed] = {}
        self._wanted: set[int] = set()
        self._changed = threading.Condition()
        #: the rulesets there are now are being listed; something is; nothing will be
        self._all = self._working = self._stopping = False
        self._no_wait_before = 0.0
        self._running: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self, everything: bool) -> None:
        """Begin to work, with *everything* by listing the rulesets there are now."""
        self._all = self._working = everything
        self._thread = threading.Thread(target=self._work, name="nft-rules", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and the listing it is at."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            running = self._running
        if running is not None:
            running.kill()
        if self._thread is not None:
            self._thread.join(1.0)

    def find(self, net: int, table: int, handle: int) -> Rule | None:
        """The rule *handle* of a table, or None: not known (yet)."""
        found = self._known(net, table, handle)
        if found is not None or self._thread is None:
            return found
        with self._changed:
            due = self._all or self._ask(net)
            now = self._clock()
            if due and now >= self._no_wait_before:
                self._changed.wait_for(lambda: self._known(net, table, handle) or not self._working, _WAIT)
                self._no_wait_before = now + _BETWEEN_WAITS * (self._clock() - now)
        return self._known(net, table, handle)

    def _known(self, net: int, table: int, handle: int) -> Rule | None:
        listed = self._listed.get(net)
        return listed.ruleset.get(table, {}).get(handle) if listed is not None else None

    def _about(self, net: int) -> _Listed:
        """What is known of *net*, to be changed; with the lock held."""
        listed = self._listed.pop(net, None) or _Listed()
        if len(self._listed) >= _REMEMBERED:
            del self._listed[next(iter(self._listed))]
        self._listed[net] = listed
        return listed

    def _ask(self, net: int) -> bool:
        """Have *net* listed again, unless it was just now; with the lock held."""
        now = self._clock()
        listed = self._about(net)
        if now < listed.due or self._stopping:
            return False
        # shortened again by a listing that brings something new
        listed.due, listed.pause = now + listed.pause, min(2 * listed.pause, _LONGEST_PAUSE)
        self._wanted.add(net)
        self._working = True
        self._changed.notify_all()
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._all or self._wanted or self._stopping)
                if self._stopping:
                    return
                wanted, self._wanted = None if self._all else self._wanted, set()
            try:
                self._list(wanted)
            except OSError as error:
                _log.debug("cannot list nftables rules: %s", error)
            with self._changed:
                self._all, self._working = False, bool(self._wanted)
                self._changed.notify_all()

    def _list(self, wanted: set[int] | None) -> None:
        """List the rulesets of the namespaces *wanted*, None for those there are."""
        left = None if wanted is None else set(wanted)
        count = 0
        for path in self._namespaces.paths():
            if self._stopping or left == set() or (left is None and count == _AT_START):
                return
            net = self._namespaces.enter(path)
            if net is None or (left is not None and net not in left):
                continue
            if left is not None:
                left.remove(net)
            count += 1
            ruleset = parse_ruleset(self._run())
            with self._changed:
                listed = self._about(net)
                if ruleset != listed.ruleset:
                    listed.pause, listed.ruleset = _PAUSE, ruleset
                    self._changed.notify_all()

    def _run(self) -> str:
        """What ``nft`` prints of the namespace this thread is in."""
        command = [self._nft, "--handle", "--stateless", "list", "ruleset"]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us
        )
        with self._changed:
            self._running = process
            if self._stopping:
                process.kill()
        try:
            out, errors = process.communicate(timeout=_NFT_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            out, errors = process.communicate()
        with self._changed:
            self._running = None
        if process.returncode:
            _log.debug("%s: exit %d: %s", " ".join(command), process.returncode, errors.decode(errors="replace"))
        return out.decode(errors="replace")
