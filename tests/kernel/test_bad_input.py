"""What cannot work is refused exactly: what failed, on what, and with which exit status."""

import json
import os

import pytest

from tests.support.collect import retis
from tests.support.namespaces import run as run_command

pytestmark = pytest.mark.one_kernel

USAGE, RUN_TIME = 2, 1

REFUSED = [
    (("-c", "skb,nosuch"), USAGE, "nosuch"),
    (("-f", "icmp", "-f", "tcp"), USAGE, "-f"),
    (("--stop-after", "many"), USAGE, "many"),
    (("-p", "ip_rcvv"), RUN_TIME, "Could not find a traceable function matching 'ip_rcvv'"),
    (("-p", "k:nosuch_*"), RUN_TIME, "Could not find a traceable function matching 'nosuch_*'"),
    (("-p", "skb:nosuch"), RUN_TIME, "Could not find a tracepoint matching 'skb:nosuch'"),
    (("-p", "foo:bar:ip_rcv"), RUN_TIME, "foo"),
    (("-p", "ip_rcv/nosuch"), RUN_TIME, "'nosuch' is an invalid probe option"),
    (("-p", "ip_rcv/"), RUN_TIME, "Empty options are not allowed"),
    (("-f", "tcp prt 80"), RUN_TIME, "Could not compile the filter: libpcap error: "),
    (("--kconf", "/nonexistent/config"), RUN_TIME, "/nonexistent/config"),
    (("-o", "/nonexistent/retis.data"), RUN_TIME, "/nonexistent/retis.data"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_refused(arguments, status, message):
    done = retis("collect", *arguments, "--cmd", "false")
    assert message in done.stderr
    assert done.returncode == status
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_unwritable_output_is_refused_before_anything_is_attached():
    done = retis("collect", "-o", "/nonexistent/retis.data", "--cmd", "true")
    assert "Could not create or open '/nonexistent/retis.data'" in done.stderr
    assert "loaded" not in done.stderr


@pytest.mark.parametrize(("capability", "message"), [("sys_admin", "CAP_SYS_ADMIN"), ("bpf", "CAP_BPF")])
def test_missing_capability_is_named(capability, message):
    prefix = ("setpriv", f"--bounding-set=-{capability}")
    done = retis("collect", "--cmd", "true", prefix=prefix)
    assert (done.returncode, "Traceback" in done.stderr) == (RUN_TIME, False)
    assert f"Retis does not have {message}: " in done.stderr


def test_missing_bcc_is_named(tmp_path):
    (tmp_path / "bcc.py").write_text("raise ImportError(\"No module named 'bcc'\")\n")
    done = retis("collect", "--cmd", "true", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == RUN_TIME
    assert "python3-bpfcc" in done.stderr
    assert "Traceback" not in done.stderr


def test_tracepoint_of_a_module_that_is_not_loaded():
    done = retis("collect", "-c", "skb", "-p", "mac80211:drv_start", "--cmd", "true")
    assert done.returncode == RUN_TIME
    assert "mac80211:drv_start" in done.stderr


def test_full_disk_ends_the_collection_and_keeps_whole_events(two_ns, collect, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    run_command("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk)
    try:
        options = ("-c", "skb,skb-tracking,dev", "-f", "icmp", "-p", "net:netif_rx")
        run = collect(*options, file=disk / "retis.data").start()
        two_ns.a.ping(two_ns.b_address, 200)
        assert run.wait() == RUN_TIME
        assert "No space left on device" in run.stderr
        assert "Traceback" not in run.stderr
        events = [json.loads(line) for line in run.lines]
        assert "startup" in events[0]
        assert len(events) > 20
        assert "veth-b" in run.printed()
    finally:
        run_command("umount", disk)
