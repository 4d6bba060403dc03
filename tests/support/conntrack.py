"""Connections of every kind through a router that tracks them, and what ``conntrack -L`` says of them."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.events import Event
from tests.support.fixtures import Router
from tests.support.namespaces import PATIENCE, Namespace, tcp_exchange

__all__ = ["IPS", "LABELS", "SCTP_TAGS", "Port", "connection", "count_connections", "listed", "prepare", "send_all"]


class Port:
    """What a destination port stands for; the server's, but for `FTP_DATA`."""

    FTP, FTP_DATA, HTTP = 21, 3001, 80
    UNTRACKED, ZONE, ORIG_ZONE, REPLY_ZONE, SNAT, LABELLED, CLOSED, PLAIN, GONE = range(5001, 5010)
    SCTP = 6000


#: bits of connection labels, and the names ``conntrack`` is told to print for them
LABELS = {3: "three", 127: "last"}
#: initiation tags of client and server: each is the verification tag of what the other sends
SCTP_TAGS = (0x80000001, 0x1234)

#: enum ip_conntrack_status (include/uapi/linux/netfilter/nf_conntrack_common.h)
IPS = {"EXPECTED": 1, "SEEN_REPLY": 2, "ASSURED": 4, "CONFIRMED": 8, "SRC_NAT": 16, "DST_NAT": 32}

IPPROTO_SCTP, IPPROTO_NOBODYS = 132, 253
CLIENT6, SERVER6 = "fd00:1::1", "fd00:2::2"

_RULES = f"""
table inet rules {{
    chain early {{
        type filter hook prerouting priority raw;
        udp dport {Port.UNTRACKED} notrack
        udp sport {Port.UNTRACKED} notrack
        udp dport {Port.ZONE} ct zone set 7
        udp sport {Port.ZONE} ct zone set 7
        udp dport {Port.ORIG_ZONE} ct original zone set 8
        udp dport {Port.REPLY_ZONE} ct reply zone set 9
        udp sport {Port.REPLY_ZONE} ct reply zone set 9
    }}
    chain late {{
        type filter hook prerouting priority filter;
        udp dport {Port.LABELLED} ct mark set 0xdeadbeef
        udp dport {Port.LABELLED} ct label set 3
        udp dport {Port.LABELLED} ct label set 127
    }}
}}
table ip services {{
    ct helper ftp {{
        type "ftp" protocol tcp;
    }}
    chain helpers {{
        type filter hook prerouting priority filter;
        tcp dport {Port.FTP} ct helper set "ftp"
        tcp dport {Port.FTP} ct mark set 21
        tcp dport {Port.FTP_DATA} ct mark set 3001
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        udp dport {Port.SNAT} snat to 10.0.2.1:40005
    }}
}}
"""


def prepare(net: Router) -> None:
    """Rules and IPv6 for `send_all`."""
    for namespace in (net.client, net.router, net.server):
        for scope in ("all", "default"):
            namespace.sysctl(f"net/ipv6/conf/{scope}/disable_ipv6", 0)
    net.router.sysctl("net/ipv6/conf/all/forwarding", 1)
    for namespace, device, address, gateway in (
        (net.client, "client0", CLIENT6, "fd00:1::2"),
        (net.router, "near0", "fd00:1::2", None),
        (net.router, "far0", "fd00:2::1", None),
        (net.server, "server0", SERVER6, "fd00:2::1"),
    ):
        commands = f"address add {address}/64 dev {device} nodad\n"
        commands += f"route add default via {gateway}\n" if gateway else ""
        namespace.run("ip", "-6", "-batch", "-", input=commands)
    net.router.run("nft", "-f", "-", input=_RULES)
    for what in ("udp", "icmp", "icmpv6"):  # entries stay until they are listed
        net.router.sysctl(f"net/netfilter/nf_conntrack_{what}_timeout", 600)
    net.router.sysctl("net/netfilter/nf_conntrack_checksum", 0)  # of the SCTP packets below, which have none


def send_all(net: Router) -> None:
    """Every kind of connection, one after the other: packets of one never come between those of another."""
    server = net.far.b_address
    for port in (Port.UNTRACKED, Port.ZONE, Port.ORIG_ZONE, Port.REPLY_ZONE, Port.SNAT, Port.LABELLED, Port.PLAIN):
        _udp(net, server, port)
    _udp(net, SERVER6, Port.PLAIN)
    _udp_to_nobody(net, server, Port.CLOSED)
    _udp_answered_too_late(net, server, Port.GONE)
    tcp_exchange(net.client, net.server, server, Port.HTTP, to=Router.VIRTUAL)
    net.client.ping(server)
    net.client.ping(SERVER6)
    _ftp(net, server)
    _sctp(net, server)
    with _raw(net.client, IPPROTO_NOBODYS) as sender, _raw(net.server, IPPROTO_NOBODYS) as receiver:
        sender.sendto(b"who?", (server, 0))
        receiver.recv(100)


@contextlib.contextmanager
def _bound(namespace: Namespace, address: str, port: int = 0) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with namespace:
        out = socket.socket(family, socket.SOCK_DGRAM)
    with out:
        out.settimeout(PATIENCE)
        out.bind((address, port))
        yield out


def _udp(net: Router, server: str, port: int) -> None:
    """Request, answer, request."""
    client = CLIENT6 if ":" in server else net.near.a_address
    with _bound(net.client, client) as one, _bound(net.server, server, port) as two:
        one.sendto(b"request", (server, port))
        _, sender = two.recvfrom(100)
        two.sendto(b"answer", sender)
        one.recv(100)
        one.sendto(b"thanks", (server, port))
        two.recv(100)


def _udp_to_nobody(net: Router, server: str, port: int) -> None:
    """The server says that the port is unreachable."""
    with _bound(net.client, net.near.a_address) as one:
        one.connect((server, port))
        one.send(b"request")
        with contextlib.suppress(ConnectionRefusedError):
            one.recv(100)
            raise AssertionError(f"{server}:{port} is open")


def _udp_answered_too_late(net: Router, server: str, port: int) -> None:
    """The client says that the port is unreachable: it is gone when the answer comes."""
    with _bound(net.server, server, port) as two:
        with _bound(net.client, net.near.a_address) as one:
            one.sendto(b"request", (server, port))
            _, sender = two.recvfrom(100)
        two.connect(sender)
        two.send(b"answer")
        with contextlib.suppress(ConnectionRefusedError):
            two.recv(100)
            raise AssertionError("the client is still there")


def _ftp(net: Router, server: str) -> None:
    """RFC 959, active mode: the client names a port, the server connects to it."""
    client = net.near.a_address
    with net.server:
        listener = socket.create_server((server, Port.FTP))
    with net.client:
        data_listener = socket.create_server((client, Port.FTP_DATA))
        control = socket.create_connection((server, Port.FTP), timeout=PATIENCE)
    with listener, data_listener, control:
        session, _ = listener.accept()
        with session:
            port = "PORT {},{},{}".format(client.replace(".", ","), *divmod(Port.FTP_DATA, 256))
            for speaker, hearer, line in (  # the helper looks at what follows a line it has seen
                (session, control, "220 ready"),
                (control, session, "USER anonymous"),
                (session, control, "230 welcome"),
                (control, session, port),
            ):
                speaker.sendall(f"{line}\r\n".encode())
                assert hearer.recv(100) == f"{line}\r\n".encode()
            with net.server:
                data = socket.create_connection((client, Port.FTP_DATA), PATIENCE, (server, 20))
            receiver, _ = data_listener.accept()
            with data, receiver:
                data.sendall(b"file")
                assert receiver.recv(100) == b"file"


@contextlib.contextmanager
def _raw(namespace: Namespace, protocol: int) -> Iterator[socket.socket]:
    with namespace:
        out = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    with out:
        out.settimeout(PATIENCE)
        yield out


def _sctp(net: Router, server: str) -> None:
    """RFC 9260: the four packets that open an association, made by hand, so that no kernel need know SCTP."""
    client, (ours, theirs) = net.near.a_address, SCTP_TAGS
    tags = {"client": theirs, "server": ours}

    def chunk(kind: int, body: bytes) -> bytes:
        return struct.pack("!BBH", kind, 0, 4 + len(body)) + body

    def init(tag: int) -> bytes:
        return struct.pack("!IIHHI", tag, 65536, 1, 1, 1)

    with _raw(net.client, IPPROTO_SCTP) as one, _raw(net.server, IPPROTO_SCTP) as two:
        for who, tag, what in (
            ("client", 0, chunk(1, init(ours))),
            ("server", tags["server"], chunk(2, init(theirs))),
            ("client", tags["client"], chunk(10, b"")),  # COOKIE ECHO
            ("server", tags["server"], chunk(11, b"")),  # COOKIE ACK
        ):
            ports = (40132, Port.SCTP) if who == "client" else (Port.SCTP, 40132)
            sender, receiver, to = (one, two, server) if who == "client" else (two, one, client)
            sender.sendto(struct.pack("!HHII", *ports, tag, 0) + what, (to, 0))
            receiver.recv(100)


def _tuple(words: list[tuple[str, str]], proto: str) -> Event:
    """One direction from the words of it."""
    of = dict(words)
    version = "v6" if ":" in of["src"] else "v4"
    if proto == "icmp":
        fields: Event = {"code": int(of["code"]), "type": int(of["type"]), "id": int(of["id"])}
    else:
        fields = {"sport": int(of["sport"]), "dport": int(of["dport"])}
    return {"ip": {"src": of["src"], "dst": of["dst"], "version": version}, "proto": {proto: fields}}


def _end(direction: Event, which: str) -> tuple[str, int | None]:
    (fields,) = direction["proto"].values()
    return direction["ip"][which], fields.get(f"{which[0]}port")


def _parse(line: str) -> Event | None:
    """The ct section, but for the packet's state, that a line of ``conntrack -L -o extended,labels`` stands for."""
    words = line.split()
    proto = {"icmpv6": "icmp"}.get(words[2], words[2])
    if proto not in ("tcp", "udp", "icmp", "sctp"):
        return None
    flags = {word.strip("[]") for word in words if word.startswith("[")}
    pairs = [(key, value) for key, equals, value in (word.partition("=") for word in words) if equals]
    second = [key for key, _ in pairs].index("src", 1)
    after, zone_id, zone_dir = dict(pairs[second:]), 0, "Default"
    for key, direction in (("zone", "Default"), ("zone-orig", "Original"), ("zone-reply", "Reply")):
        if key in dict(pairs):
            zone_id, zone_dir = int(dict(pairs)[key]), direction
    orig, reply = _tuple(pairs[:second], proto), _tuple(pairs[second:], proto)
    out: dict[str, Any] = {"zone_id": zone_id, "zone_dir": zone_dir, "orig": orig, "reply": reply}
    if proto in ("tcp", "sctp"):
        out["proto_state"] = words[5]
    out["mark"] = int(after["mark"])
    if after.get("labels"):
        number = sum(1 << bit for bit, name in LABELS.items() if name in after["labels"].split(","))
        out["labels"] = {"hi": number >> 64, "lo": number & (1 << 64) - 1}
    status = IPS["CONFIRMED"]
    status |= IPS["SEEN_REPLY"] * ("UNREPLIED" not in flags) | IPS["ASSURED"] * ("ASSURED" in flags)
    status |= IPS["SRC_NAT"] * (_end(orig, "src") != _end(reply, "dst"))
    status |= IPS["DST_NAT"] * (_end(orig, "dst") != _end(reply, "src"))
    out["ct_status"] = status
    return out


def listed(net: Router, folder: Path) -> list[Event]:
    """The router's connections that have a form in event files, as `connection` makes them of events."""
    # conntrack knows names of labels from /etc alone: it gets an /etc of its own
    labels = folder / "etc" / "xtables" / "connlabel.conf"
    labels.parent.mkdir(parents=True)
    labels.write_text("".join(f"{bit} {name}\n" for bit, name in LABELS.items()))
    lists = "; ".join(f"conntrack -L -f {family} -o extended,labels" for family in ("ipv4", "ipv6"))
    shell = f"mount --bind {folder}/etc /etc && {{ {lists}; }}"
    lines = net.router.run("unshare", "--mount", "sh", "-c", shell).splitlines()
    return [parsed for line in lines if line.startswith("ip") and (parsed := _parse(line))]


def count_connections(namespace: Namespace) -> int:
    """The kernel's own count."""
    with namespace:
        return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


def connection(event: Event) -> Event:
    """What a ct section says of the connection, in the terms of ``conntrack -L``: without the packet's state, parent,
    verification tags, and those bits of the status that are not shown."""
    out = json.loads(json.dumps(event["ct"]))
    del out["state"]
    out.pop("parent", None)
    for direction in ("orig", "reply"):
        out[direction]["proto"].get("sctp", {}).pop("vtag", None)
    out["ct_status"] &= sum(IPS.values()) - IPS["EXPECTED"]
    return out
