"""Fixtures for tests on a real kernel; ``conftest.py`` of such a directory imports them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.collect import Collect
from tests.support.namespaces import Link, Namespace, join, new_namespace

__all__ = ["Router", "collect", "route", "three_ns", "two_ns"]


@pytest.fixture
def two_ns() -> Iterator[Link]:
    """Two namespaces joined by a veth pair that know each other's address: see `Link`."""
    with join() as link:
        yield link


@dataclass
class Router:
    """``client`` - ``router`` - ``server``; the router sends what is for `VIRTUAL` to the server."""

    VIRTUAL = "10.0.9.9"
    client: Namespace
    router: Namespace
    server: Namespace
    near: Link
    far: Link


@contextlib.contextmanager
def route() -> Iterator[Router]:
    """A client, a router that translates the destination 10.0.9.9, and the server it translates to."""
    with contextlib.ExitStack() as stack:
        client, router, server = (stack.enter_context(new_namespace(role)) for role in ("c", "r", "s"))
        near = Link(client, router, "10.0.1", "client0 near0")
        far = Link(router, server, "10.0.2", "far0 server0")
        client.ip(f"route add default via {near.b_address}")
        server.ip(f"route add default via {far.a_address}")
        router.sysctl("net/ipv4/ip_forward", 1)
        rule = f"ip daddr {Router.VIRTUAL} dnat to {far.b_address};"
        chain = f"chain prerouting {{ type nat hook prerouting priority dstnat; {rule} }}"
        router.run("nft", "-f", "-", input=f"table ip nat {{ {chain}; }}")
        yield Router(client, router, server, near, far)


@pytest.fixture
def three_ns() -> Iterator[Router]:
    """Client, router and server: see `route`."""
    with route() as router:
        yield router


@pytest.fixture
def collect(tmp_path: Path) -> Callable[..., Collect]:
    """``with collect("-c", "skb", ...) as run:`` traces inside the block; then ``run`` has the events."""
    numbers = itertools.count()

    def make(*arguments: object, **settings: Any) -> Collect:
        directory = tmp_path / f"collect{next(numbers)}"
        directory.mkdir()
        return Collect(directory, *arguments, **settings)

    return make
