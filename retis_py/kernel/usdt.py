"""USDT probes of a process, as BCC knows them.

BCC reads the ELF notes (of position-independent executables too, and of all libraries the process has mapped), counts
semaphores up, and writes the C that gets at each argument, whatever its size and place. What it cannot do is left to
`retis_py.kernel.session`: its ``BPF(usdt_contexts=...)`` would attach programs before they are told which probe they
are.
"""

from __future__ import annotations

import os
import select

from retis_py.errors import KernelError
from retis_py.kernel.session import load_bcc

__all__ = ["UserProcess"]


class _Ended:
    """What is left of a `bcc.USDT` whose process is gone: BCC 0.26, giving back its probes, closes a file descriptor
    that is not its own."""


class UserProcess:
    """The running process *pid*; hits of its probes are those of all its threads."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        bcc = load_bcc()
        self._life = -1
        try:
            self._life = os.pidfd_open(pid)
            self._usdt = bcc.USDT(pid=pid)
        except Exception as error:
            raise KernelError(f"cannot read the USDT probes of process {pid}: {error}") from None
        #: all probes, as ``provider:name``
        self.probes = {f"{p.provider.decode()}:{p.name.decode()}" for p in self._usdt.enumerate_probes()}

    @property
    def path(self) -> str:
        """Its executable."""
        try:
            return os.readlink(f"/proc/{self.pid}/exe")
        except OSError:
            return ""

    def alive(self) -> bool:
        """Is it still there?"""
        return not select.select([self._life], [], [], 0)[0]

    def close(self) -> None:
        """Give the probes back: counts their semaphores down."""
        if self._life < 0:
            return
        if not self.alive():
            self._usdt.__class__ = _Ended  # without its __del__()
        os.close(self._life)
        self._life = -1
        del self._usdt

    def enable(self, probe: str, function: str) -> None:
        """Have `text` hold the readers of *probe*'s arguments for the program *function*."""
        try:
            self._usdt.enable_probe(probe, function)
        except Exception as error:
            raise KernelError(f"cannot enable USDT probe {probe} of process {self.pid}: {error}") from None

    def argument_type(self, probe: str, index: int) -> str:
        """The C type of an argument: its reader wants exactly that."""
        return str(self._usdt.get_probe_arg_ctype(probe, index))

    def text(self) -> str:
        """C: ``_bpf_readarg_<function>_<number>()`` for each argument of the probes that were enabled."""
        return str(self._usdt.get_text())

    def places(self, function: str) -> list[tuple[bytes, int]]:
        """Where the program *function* is to be attached: file, and address as its ELF headers have it."""
        return [
            (path, address)
            for path, name, address, _ in self._usdt.enumerate_active_probes()
            if name.decode() == function
        ]
