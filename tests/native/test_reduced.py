"""Reduced mode: a kernel with BTF and raw tracepoints but without kprobes is traced as far as that goes."""

import pytest

from tests.support.collect import retis
from tests.support.events import tracking_id
from tests.support.tracing import has_kprobes

pytestmark = pytest.mark.skipif(has_kprobes(), reason="this kernel has kprobes: nothing is reduced")


def test_what_is_missing_is_said_once(two_ns, collect):
    with collect() as run:
        two_ns.a.ping(two_ns.b_address)
    assert len([line for line in run.stderr.splitlines() if "kprobes" in line]) == 1
    assert {"net:netif_receive_skb", "net:net_dev_start_xmit"} <= {e["kernel"]["symbol"] for e in run.events}


def test_packet_ids_end_with_the_packet(two_ns, collect):
    """Without the kprobes that see data freed, the consume_skb and kfree_skb tracepoints end an id."""
    with collect("-c", "skb,skb-tracking", "-f", "icmp", "-p", "net:netif_rx") as run:
        two_ns.a.ping(two_ns.b_address, 50)
    assert len(set(map(tracking_id, run.events))) == len(run.events) == 100


def test_function_probe_is_refused(two_ns):
    done = retis("collect", "-c", "skb", "-p", "k:ip_rcv", "--cmd", "true")
    assert done.returncode == 1
    assert "kprobe" in done.stderr
    assert "Traceback" not in done.stderr


def test_upstream_reads_the_file_with_the_same_text(two_ns, collect):
    with collect("--skb-sections", "all") as run:
        two_ns.a.ping(two_ns.b_address)
        two_ns.tcp(80, payload=bytes(20_000))
        two_ns.a.connect(two_ns.b_address, 443)
    assert run.read_by_upstream() == run.printed()
