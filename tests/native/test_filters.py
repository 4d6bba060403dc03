"""Filters of more kinds than the lab has time for, on this machine's own kernel."""
# ruff: noqa: F401 (importing a test is running it here)

import subprocess

import pytest

from tests.kernel.test_filters import (
    test_meta_filter_knows_the_values_of_an_enum_by_name,
    test_meta_filter_reads_a_signed_bitfield,
    wire,
)
from tests.support.collect import RETIS, retis

NAMES = ("len", "mark", "priority", "skb_iif", "truesize", "protocol", "pkt_type", "dev.mtu", "dev.ifindex")
SENT = ("-p", "net:net_dev_start_xmit")


@pytest.mark.parametrize(
    ("expression", "reported"),
    [
        ("sk_buff.mark == 7", 2),
        ("sk_buff.mark:0x5 == 5 and sk_buff.dev.ifindex > 0", 2),
        ("sk_buff.mark != 7", 0),
        ("sk_buff.mark < 7 or sk_buff.mark > 7", 0),
    ],
)
def test_meta_filter_compares_numbers(two_ns, collect, expression, reported):
    with collect("-c", "skb", "-f", "icmp[icmptype] == icmp-echo", "-m", expression, *SENT) as run:
        two_ns.a.ping(two_ns.b_address, 2, "-m", "7")
    assert len(run.events) == reported


@pytest.mark.parametrize(
    ("expression", "reported"),
    [("greater 1000", 0), ("less 1000", 2), ("len == 98", 2), ("ip[8] == 64 and not host 1.2.3.4", 2)],
)
def test_packet_filter_sees_the_frame(two_ns, collect, expression, reported):
    with collect("-c", "skb", "-f", f"icmp[icmptype] == 8 and ({expression})", *SENT) as run:
        two_ns.a.ping(two_ns.b_address, 2)
    assert len(run.events) == reported


def _names(count: int) -> str:
    return " or ".join(f'sk_buff.dev.name == "verylongname{number:03}"' for number in range(count))


def _walks(count: int) -> str:
    # the way to one is not the way to the other, so each is walked from the start
    ways = ("sk_buff.sk.__sk_common.skc_net.net.ns.inum", "sk_buff.dev.nd_net.net.user_ns.ns.inum")
    return " or ".join(f"{ways[number % 2]} == {number}" for number in range(count))


def _numbers(count: int) -> str:
    text = "sk_buff.mark == 99"
    for number in range(count):
        term = f"sk_buff.{NAMES[number % 9]} {('==', '<', '>=', '!=')[number % 4]} {number}"
        text = f"{term} and ({text})" if number % 9 == 0 else f"{text} {'and' if number % 3 else 'or'} {term}"
    return f"({text}) and sk_buff.mark == 99"


@pytest.mark.parametrize(
    "lengthy",
    [_names(2), _names(40), _numbers(100), _walks(60), _names(511)],
    ids=["2 names", "40 names", "100 numbers", "60 walks", "as many names as there may be"],
)
def test_long_meta_filter_is_not_too_complex(two_ns, collect, lengthy):
    expression = f"({lengthy}) or sk_buff.mark == 7"
    with collect("-c", "skb", "-f", "icmp[icmptype] == icmp-echo", "-m", expression, *SENT) as run:
        two_ns.a.ping(two_ns.b_address, 2, "-m", "7")
        two_ns.a.ping(two_ns.b_address, 1, "-m", "8")
    assert len(run.events) == 2


def test_filter_that_is_too_complex_is_refused_with_its_size():
    done = retis("collect", "-c", "skb", "-m", _names(600), *SENT)
    assert done.returncode == 1
    assert "Error: the meta filter is too complex: 600 comparisons, at most 512" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("expression", "reported"),
    [
        ('sk_buff.dev.ifalias.ifalias == "to the other end"', 2),
        ('sk_buff.dev.ifalias.ifalias == "to the other"', 0),
        ('sk_buff.dev.ifalias.ifalias != "to the other end, or so"', 2),
        ('sk_buff.dev.name == "veth-a" and sk_buff.dev.ifalias.ifalias == "to the other end"', 2),
        ('sk_buff.dev.name != "veth-a"', 0),
        # a char *, of const memory
        ('sk_buff.dev.rtnl_link_ops.kind == "veth"', 2),
        ('sk_buff.dev.rtnl_link_ops.kind == "veth-and-more"', 0),
    ],
)
def test_meta_filter_compares_strings(two_ns, collect, expression, reported):
    two_ns.a.ip("link", "set", two_ns.a_device, "alias", "to the other end")
    with collect("-c", "skb", "-f", "icmp[icmptype] == icmp-echo", "-m", expression, *SENT) as run:
        two_ns.a.ping(two_ns.b_address, 2)
    assert len(run.events) == reported


@pytest.mark.parametrize(
    "option",
    [
        ("-f", b"\xff"),
        ("-m", b"\xff"),
        ("-m", b'sk_buff.dev.name == "\xff"'),
        ("-m", b"sk_buff.mark == " + b"9" * 5000),
        ("-m", b"(" * 600 + b"sk_buff.mark" + b")" * 600),
        ("-m", b"dev.mark"),
    ],
    ids=["packet filter", "bytes", "bytes in a string", "digits", "parentheses", "mistake"],
)
def test_bad_filter_is_an_error_of_one_line(option):
    command = [RETIS, "collect", "-c", "skb", *SENT, *option]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    said = done.stderr.decode()
    assert done.returncode == 1
    assert said.count("Error: ") == 1 and "Traceback" not in said
