"""Network namespaces joined by veth pairs, and traffic of which every packet is known.

Namespaces are entered by the calling thread (``with ns:``), so that sockets are made and commands are run in
them without a process in between: under emulation a process costs more than the traffic.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Link", "Namespace", "join", "new_namespace", "run", "tcp_exchange", "wait_for"]

CLONE_NEWNET = 0x40000000
#: generous: emulation is 10-20 times slower. Waiting ends with the fact waited for, not after this time
PATIENCE = 60.0
TCP_FIN_WAIT2 = 5  # include/net/tcp_states.h

_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: object, check: bool = True, input: str | None = None) -> str:
    """Run *command*, return what it printed; on failure the exception shows it."""
    done = subprocess.run(
        [str(word) for word in command],
        input=input,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


def wait_for(fact: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Return as soon as *fact* holds; fail after *patience* seconds."""
    end = time.monotonic() + patience
    while not fact():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {patience:.0f} s")
        time.sleep(0.01)


class Namespace:
    """A network namespace; ``with namespace:`` moves the calling thread into it."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        self._home: list[int] = []
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        with self:
            run("ip", "link", "set", "lo", "up")
            # packets nobody sent on purpose
            for scope in ("all", "default"):
                self.sysctl(f"net/ipv6/conf/{scope}/disable_ipv6", 1, missing_ok=True)

    @property
    def path(self) -> Path:
        return Path("/run/netns") / self.name

    @property
    def inum(self) -> int:
        """The namespace's inode number, as the ns collector reports it."""
        return self.path.stat().st_ino

    def __enter__(self) -> Namespace:
        self._home.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        _setns(self._fd)
        return self

    def __exit__(self, *exc_info: object) -> None:
        home = self._home.pop()
        _setns(home)
        os.close(home)

    def run(self, *command: object, check: bool = True, input: str | None = None) -> str:
        with self:
            return run(*command, check=check, input=input)

    def ip(self, *arguments: object) -> str:
        """``ip ARGUMENTS``; one string is split at spaces."""
        words = str(arguments[0]).split() if len(arguments) == 1 else arguments
        return self.run("ip", *words)

    def sysctl(self, name: str, value: object, missing_ok: bool = False) -> None:
        with self:
            setting = Path("/proc/sys") / name
            if setting.exists() or not missing_ok:
                setting.write_text(f"{value}\n")

    def ifindex(self, device: str) -> int:
        with self:
            return socket.if_nametoindex(device)

    def mac(self, device: str) -> str:
        return str(json.loads(self.ip("-j", "link", "show", device))[0]["address"])

    def ping(self, address: str, count: int = 1, *options: object) -> None:
        """*count* echo requests, each answered."""
        self.run("ping", "-n", "-q", "-c", count, "-i", "0.01", "-W", "30", *options, address)

    def connect(self, address: str, port: int) -> None:
        """One SYN to a closed port: fails if something listens there."""
        with self, socket.socket() as client, contextlib.suppress(ConnectionRefusedError):
            client.settimeout(PATIENCE)
            client.connect((address, port))
            raise AssertionError(f"{address}:{port} is open")

    def send_udp(self, address: str, port: int, payload: bytes = b"x", count: int = 1) -> None:
        with self, socket.socket(type=socket.SOCK_DGRAM) as sender:
            for _ in range(count):
                sender.sendto(payload, (address, port))

    @contextlib.contextmanager
    def tcpdump(self, path: Path, device: str, expression: str, count: int) -> Iterator[None]:
        """Capture on *device* meanwhile; ends when *count* packets have come, which must happen."""
        command = ["tcpdump", "-U", "-Z", "root", "-c", str(count), "-i", device, "-w", str(path), expression]
        with self:
            process = subprocess.Popen(command, stderr=subprocess.PIPE)
        with process:
            while b"listening on" not in (line := process.stderr.readline()):
                assert line, f"tcpdump ended (exit {process.wait()})"
            try:
                yield
                process.wait(PATIENCE)
            finally:
                process.terminate()

    def delete(self) -> None:
        os.close(self._fd)
        run("ip", "netns", "del", self.name)


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def new_namespace(role: str) -> Iterator[Namespace]:
    """A namespace for the duration of a test, its name unique on this machine."""
    namespace = Namespace(f"rp{os.getpid()}-{next(_numbers)}-{role}")
    try:
        yield namespace
    finally:
        namespace.delete()


class Link:
    """A veth pair between two namespaces: ``a`` has 10.0.42.1 on veth-a, ``b`` 10.0.42.2 on veth-b."""

    def __init__(self, a: Namespace, b: Namespace, subnet: str = "10.0.42", names: str = "veth-a veth-b"):
        self.a, self.b = a, b
        self.a_device, self.b_device = names.split()
        self.a_address, self.b_address = f"{subnet}.1", f"{subnet}.2"
        a.ip(f"link add {self.a_device} type veth peer name {self.b_device} netns {b.name}")
        for ns, device, address in (
            (a, self.a_device, self.a_address),
            (b, self.b_device, self.b_address),
        ):
            ns.ip(f"address add {address}/24 dev {device}")
            ns.ip(f"link set {device} up")
        wait_for(lambda: "LOWER_UP" in a.ip(f"link show {self.a_device}"), f"carrier on {self.a_device}")
        wait_for(lambda: "LOWER_UP" in b.ip(f"link show {self.b_device}"), f"carrier on {self.b_device}")
        self.know_neighbours()

    def know_neighbours(self) -> None:
        """Both ends know each other for good: no ARP between the packets of a test."""
        self.a.ip(f"neigh replace {self.b_address} lladdr {self.b.mac(self.b_device)} dev {self.a_device}")
        self.b.ip(f"neigh replace {self.a_address} lladdr {self.a.mac(self.a_device)} dev {self.b_device}")

    def forget_neighbours(self) -> None:
        """The next packet is preceded by an ARP request and its reply."""
        self.a.ip(f"neigh del {self.b_address} dev {self.a_device}")
        self.b.ip(f"neigh del {self.a_address} dev {self.b_device}")

    def tcp(self, port: int = 80, payload: bytes = b"") -> None:
        """A connection from a to b, opened and closed: see `tcp_exchange`."""
        tcp_exchange(self.a, self.b, self.b_address, port, payload)


def tcp_exchange(
    a: Namespace, b: Namespace, listen: str, port: int, payload: bytes = b"", to: str | None = None
) -> None:
    """A connection from a to b, opened and closed; without *payload* that is seven packets, always.

    SYN, SYN-ACK, ACK, then FIN of the client and its ACK, FIN of the server and its ACK: the server
    closes only when its ACK has arrived, else it would travel with the FIN. The server listens at *listen*, the client
    connects to *to* where that is another address.
    """
    with b, socket.create_server((listen, port)) as listener:
        listener.settimeout(PATIENCE)
        with a:
            client = socket.create_connection((to or listen, port), timeout=PATIENCE)
        server, _ = listener.accept()
        server.settimeout(PATIENCE)
        with client, server:
            if payload:
                client.sendall(payload)
            client.shutdown(socket.SHUT_WR)
            while server.recv(1 << 16):
                pass
            wait_for(lambda: _tcp_state(client) == TCP_FIN_WAIT2, "acknowledgement of the client's FIN")
            server.shutdown(socket.SHUT_WR)
            client.recv(1)


def _tcp_state(connection: socket.socket) -> int:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


@contextlib.contextmanager
def join() -> Iterator[Link]:
    """Two new namespaces and the link between them."""
    with new_namespace("a") as a, new_namespace("b") as b:
        yield Link(a, b)
