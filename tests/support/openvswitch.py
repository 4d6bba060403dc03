"""Open vSwitch as the distribution builds it, run for the duration of a test session, away from any other."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.namespaces import Namespace, run, wait_for

__all__ = ["Bridge", "OpenVSwitch", "module", "open_vswitch"]

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")


def _runs(pid: int) -> bool:
    """Is there process *pid*, and not only what is left until somebody waits for it?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


@contextlib.contextmanager
def module() -> Iterator[None]:
    """The kernel's part, gone again afterwards: where it is loaded, ``-c auto`` includes collector ovs."""
    run("modprobe", "openvswitch")
    try:
        yield
    finally:
        run("modprobe", "-r", "openvswitch", check=False)


class OpenVSwitch:
    """ovsdb-server and ovs-vswitchd with their files in *directory*."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {name: str(directory) for name in ("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR")}
        self._remote = f"unix:{directory}/db.sock"

    def _run(self, *command: object) -> str:
        done = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, **self.environment},
            text=True,
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self) -> None:
        database = self.directory / "conf.db"
        self._run("ovsdb-tool", "create", database, SCHEMA)
        quiet = ("--detach", "--no-chdir", "--pidfile", "-vconsole:off")
        self._run("ovsdb-server", database, f"--remote=p{self._remote}", *quiet)
        self.vsctl("--no-wait", "init")
        self.start_vswitchd()

    def start_vswitchd(self) -> None:
        """Returns when it answers."""
        self._run("ovs-vswitchd", self._remote, "--log-file", "--detach", "--no-chdir", "--pidfile", "-vconsole:off")

    def stop_vswitchd(self) -> None:
        """What it has installed in the kernel stays and works."""
        pid = self.pid
        self.appctl("exit")
        wait_for(lambda: not _runs(pid), "ovs-vswitchd gone")

    def stop(self) -> None:
        with contextlib.suppress(AssertionError):
            self.appctl("exit", "--cleanup")
        for name in ("ovs-vswitchd", "ovsdb-server"):
            pidfile = self.directory / f"{name}.pid"
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                pid = int(pidfile.read_text())
                os.kill(pid, signal.SIGTERM)
                try:
                    wait_for(lambda pid=pid: not _runs(pid), f"{name} gone", 20)
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        return int((self.directory / "ovs-vswitchd.pid").read_text())

    def vsctl(self, *arguments: object) -> str:
        return self._run("ovs-vsctl", f"--db={self._remote}", "--timeout=60", *arguments)

    def appctl(self, *arguments: object) -> str:
        return self._run("ovs-appctl", *arguments)

    def ofctl(self, *arguments: object) -> str:
        return self._run("ovs-ofctl", *arguments)

    def flows(self) -> list[str]:
        """The kernel's flows, as ``dpctl/dump-flows`` prints them."""
        return self.appctl("dpctl/dump-flows").splitlines()

    def lookups(self) -> tuple[int, int]:
        """Hits and misses the kernel counted."""
        shown = self.appctl("dpctl/show")
        hit, missed = re.search(r"hit:(\d+) missed:(\d+)", shown).groups()
        return int(hit), int(missed)

    def masks(self) -> tuple[int, int]:
        """How many masks, and how many entries of the cache of masks, look-ups tried, as the kernel counted."""
        shown = self.appctl("dpctl/show")
        masks, cache = (re.search(rf"{what}: hit:(\d+)", shown) for what in ("masks", "cache"))
        assert masks, shown
        return int(masks[1]), int(cache[1]) if cache else 0  # 0 is not shown


class Bridge:
    """A bridge with two ports, behind each a namespace: ``a`` has 192.168.1.1, ``b`` 192.168.1.2."""

    A, B = "192.168.1.1", "192.168.1.2"

    def __init__(self, ovs: OpenVSwitch, a: Namespace, b: Namespace) -> None:
        self.ovs, self.a, self.b = ovs, a, b
        self.name = f"br{os.getpid() % 10000}"
        self.ports = {}
        for number, (ns, address) in enumerate(((a, self.A), (b, self.B)), 1):
            port = f"p{number}-{self.name}"
            run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", ns.name)
            run("ip", "link", "set", port, "up")
            ns.ip(f"address add {address}/24 dev eth0")
            ns.ip("link set eth0 up")
            self.ports[number] = port
        ovs.vsctl(
            *("add-br", self.name, "--", "set", "bridge", self.name, "fail-mode=secure"),
            *(
                word
                for number, port in self.ports.items()
                for word in ("--", "add-port", self.name, port, "--", "set", "interface", port, f"ofport={number}")
            ),
        )
        for ns in (a, b):
            wait_for(lambda ns=ns: "LOWER_UP" in ns.ip("link show eth0"), "carrier")
        self.know_neighbours()

    def know_neighbours(self, *more: str) -> None:
        """Both ends know each other for good; *more* addresses are a's."""
        self.a.ip(f"neigh replace {self.B} lladdr {self.b.mac('eth0')} dev eth0")
        for address in (self.A, *more):
            self.b.ip(f"neigh replace {address} lladdr {self.a.mac('eth0')} dev eth0")

    def forget_neighbours(self) -> None:
        """The next packet is preceded by an ARP request and its reply."""
        self.a.ip(f"neigh del {self.B} dev eth0")
        self.b.ip(f"neigh del {self.A} dev eth0")

    def set_flows(self, *flows: str) -> None:
        """Replace the OpenFlow rules; the kernel's flows go too."""
        self.ovs.ofctl("del-flows", self.name)
        for flow in flows:
            self.ovs.ofctl("add-flow", self.name, flow)
        self.ovs.appctl("revalidator/wait")
        # not dpctl/del-flows: what ovs-vswitchd still believes to be in the kernel it would not install again
        self.ovs.appctl("revalidator/purge")
        wait_for(lambda: not self.ovs.flows(), "the kernel's flows gone")

    def delete(self) -> None:
        self.ovs.vsctl("del-br", self.name)
        for port in self.ports.values():
            run("ip", "link", "del", port, check=False)


@contextlib.contextmanager
def open_vswitch(directory: Path) -> Iterator[OpenVSwitch]:
    """A running Open vSwitch."""
    ovs = OpenVSwitch(directory)
    with module():
        try:
            ovs.start()
            yield ovs
        finally:
            ovs.stop()
