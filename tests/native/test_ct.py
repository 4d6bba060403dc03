"""ct without kprobes: all that tests/kernel/test_ct.py says of it holds from tracepoints alone."""

from pathlib import Path

import pytest

from tests.kernel.test_ct import *  # noqa: F403
from tests.support.collect import retis


@pytest.mark.parametrize(
    ("line", "reason", "hint"),
    [
        ("# CONFIG_NF_CONNTRACK is not set", "This kernel does not support connection tracking", None),
        ("CONFIG_NF_CONNTRACK=m", "'nf_conntrack' is not loaded", "modprobe nf_conntrack"),
    ],
)
def test_kernel_without_conntrack_is_refused_or_passed_over(tmp_path, line, reason, hint):
    """The kernel is told to be configured another way than it is."""
    if hint and Path("/sys/module/nf_conntrack/refcnt").exists():
        pytest.skip("the module is loaded")
    kconf = tmp_path / "config"
    kconf.write_text(f"{line}\n")
    named = retis("collect", "-c", "ct", "--kconf", kconf, "--show-bpf")
    assert named.returncode == 1
    assert reason in named.stderr
    assert hint is None or hint in named.stderr
    automatic = retis("collect", "-c", "auto", "--kconf", kconf, "--show-bpf")
    assert automatic.returncode == 0
    assert "hook_ct" not in automatic.stdout
    assert "conntrack" not in automatic.stderr
