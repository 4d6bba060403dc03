"""The rule that makes the kernel call ``__nft_trace_packet()``, added with consent and always taken away again.

A rule that sets nftrace, anywhere, turns on a static key of nf_tables: from then on the function is called for every
verdict of every packet, in all network namespaces (net/netfilter/nft_meta.c, nft_meta_set_init()). So the rule is in a
chain that no hook and no other chain leads to: no packet is ever marked, and ``nft monitor trace`` shows nothing.

While the rule is there a file under /run says so, locked: a run that finds the file unlocked knows that its owner was
killed and cleans up; one that finds it locked shares the rule, and the last one out removes it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
from pathlib import Path
from typing import Any

from retis_py.errors import KernelError

__all__ = ["TraceRule"]

_log = logging.getLogger(__name__)

#: upstream's names: either cleans up after the other
TABLE, CHAIN = "Retis_Table", "Retis_Chain"
_TABLE = {"family": "inet", "name": TABLE}
_DELETE: list[Any] = [{"delete": {"table": _TABLE}}]
_ADD: list[Any] = [
    {"add": {"table": _TABLE}},
    {"add": {"chain": {"family": "inet", "table": TABLE, "name": CHAIN}}},
    {
        "insert": {
            "rule": {
                "family": "inet",
                "table": TABLE,
                "chain": CHAIN,
                "expr": [{"mangle": {"key": {"meta": {"key": "nftrace"}}, "value": 1}}],
            }
        }
    },
]
_BY_HAND = f"nft delete table inet {TABLE}"
#: seconds one ``nft`` may take
_PATIENCE = 30.0


class TraceRule:
    """The trace rule of this network namespace. *nft* is the program, *directory* is for the file that marks it."""

    def __init__(self, nft: str, directory: Path = Path("/run")) -> None:
        self._nft = nft
        self._mark = directory / f"retis_py-nft-{os.stat('/proc/self/ns/net').st_ino}"
        self._fd: int | None = None
        self._installed = False

    def clean_up(self) -> None:
        """Remove what a run that was killed has left behind: it had consent to add, and so to remove."""
        if self._mark.exists() and self._lock(share=False):
            self._unlock(remove=self._delete_leftover())

    def install(self) -> None:
        """Add the rule. Raises KernelError if that fails; nothing is left then."""
        alone = self._lock()
        if alone:
            self._delete_leftover()
        if alone or self._there() is not True:
            error = self._apply(_ADD)
            if error is not None:
                self._apply(_DELETE)
                self._unlock(remove=alone)
                raise KernelError(
                    f"cannot add the nft trace rule: {error}",
                    hint="it takes CAP_NET_ADMIN and a working nft; without --allow-system-changes it is up to you to "
                    "add a rule with 'meta nftrace set 1'",
                )
        self._installed = True
        if self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_SH)

    def remove(self) -> None:
        """Take the rule away, unless another run goes on using it. Never raises: the message says what is left."""
        if not self._installed:
            return
        self._installed = False
        if self._fd is not None:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                _log.debug("another run uses the nft trace rule: it stays")
                self._unlock(remove=False)
                return
        error = self._apply(_DELETE)
        if error is None:
            _log.debug("removed the nft trace rule")
        elif self._there() is not False:
            _log.error("Unable to delete %s: %s. To remove the table, please run: %s", TABLE, error, _BY_HAND)
            self._unlock(remove=False)
            return
        else:
            _log.warning("the nft trace rule was gone before the end (%s): events of nft may be missing", error)
        self._unlock(remove=True)

    def _delete_leftover(self) -> bool:
        """Delete the table of an earlier run, if any; is there none now?"""
        error = self._apply(_DELETE)
        if error is None:
            _log.info("Removed table inet %s, left behind by an earlier run", TABLE)
        elif self._there() is not False:
            _log.warning("table inet %s of an earlier run cannot be removed (%s); by hand: %s", TABLE, error, _BY_HAND)
            return False
        return True

    def _there(self) -> bool | None:
        """Is the table there? None: cannot be told."""
        done = self._nft_run("-j", "list", "tables")
        if isinstance(done, str):
            return None
        try:
            listed = json.loads(done)["nftables"]
        except (ValueError, KeyError):
            return None
        return any(entry.get("table", {}).get("name") == TABLE for entry in listed)

    def _apply(self, commands: list[Any]) -> str | None:
        """Have nft carry out *commands*, all or nothing; why it failed, None if it did not."""
        done = self._nft_run("-j", json.dumps({"nftables": commands}))
        return done if isinstance(done, str) else None

    def _nft_run(self, *arguments: str) -> bytes | str:
        """What nft prints; text, not bytes, says why it failed."""
        try:
            done = subprocess.run(
                [self._nft, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
                start_new_session=True,  # Ctrl-C is for us: what was begun is finished
            )
        except subprocess.TimeoutExpired:
            return f"{self._nft} did not end within {_PATIENCE:.0f} s"
        except OSError as error:
            return f"{self._nft}: {error.strerror}"
        if done.returncode == 0:
            return done.stdout
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        return said[0] if said else f"{self._nft} ended with exit status {done.returncode}"

    def _lock(self, share: bool = True) -> bool:
        """Open the mark and lock it; True if nobody else has it. If somebody has, *share* it or leave it alone.

        Whoever shares it for a moment only may be seen by the last user that leaves, which then leaves the rule, too.
        """
        while True:
            try:
                fd = os.open(self._mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                _log.debug("%s: %s", self._mark, error.strerror)
                return True
            alone = True
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if not share:
                    os.close(fd)
                    return False
                alone = False
                fcntl.flock(fd, fcntl.LOCK_SH)
            try:
                current = os.stat(self._mark).st_ino
            except OSError:
                current = -1
            if current == os.fstat(fd).st_ino:
                self._fd = fd
                return alone
            os.close(fd)  # its last user has just removed it

    def _unlock(self, remove: bool) -> None:
        fd, self._fd = self._fd, None
        if fd is None:
            return
        if remove:
            self._mark.unlink(missing_ok=True)
        os.close(fd)
