"""The Debian package alone: installed, run, removed. `tests.lab.plugin` builds it outside, where that is fast."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.collect import START_PATIENCE
from tests.support.namespaces import wait_for

pytestmark = pytest.mark.one_kernel

ROOT = Path(__file__).resolve().parents[2]
#: nothing of the checkout, nor of its environment
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    settings = {"capture_output": True, "text": True, "timeout": START_PATIENCE, "cwd": "/", "env": CLEAN, **options}
    done = subprocess.run([str(word) for word in command], **settings)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if "RETIS_PY_LAB_SHARE" not in os.environ:
        pytest.skip("packages are installed in the lab only")
    (deb,) = (ROOT / ".cache/deb").glob("*.deb")
    # What is installed, without the lists of its 100,000 files, which take minutes to read here; nor is man-db told,
    # which would index every manual there is.
    admin = tmp_path_factory.mktemp("dpkg")
    for name in ("info", "updates", "triggers"):
        (admin / name).mkdir()
    shutil.copy("/var/lib/dpkg/status", admin)
    dpkg = ("dpkg", "--admindir", admin, "--no-triggers")
    run(*dpkg, "-i", deb)
    yield deb
    run(*dpkg, "-P", "retis-py")
    assert not Path("/usr/bin/retis").exists()
    assert not list(Path("/usr/lib").glob("retis/**/*"))


def test_recording_of_the_unit_is_what_was_sent_and_ends_with_the_signal_systemd_sends(
    package: Path, tmp_path: Path
) -> None:
    settings = {"RETIS_ROTATE": "1MB", "RETIS_FILTER": "icmp", "STATE_DIRECTORY": str(tmp_path)}
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(["/usr/lib/retis/retis-record"], stderr=log, env={**CLEAN, **settings})
        wait_for(lambda: "probe(s) loaded" in (tmp_path / "log").read_text(), "recording", START_PATIENCE)
        run("ping", "-q", "-n", "-c", "3", "-i", "0.05", "127.0.0.1")
        process.send_signal(signal.SIGINT)
        assert process.wait(START_PATIENCE) == 0
    (part,) = tmp_path.glob("*/retis.data.0")
    first, *events = map(json.loads, part.read_text().splitlines())
    assert first["startup"]["split_file"]["policy"] == {"kind": "size", "limit": 1_000_000}
    assert len([event for event in events if event["kernel"]["symbol"].startswith("net:")]) == 12
    out = tmp_path / "x.pcap"
    done = run("/usr/bin/retis", "pcap", "--probe", "tp:net:netif_receive_skb", "-o", out, part)
    assert done.stderr == "6 event(s) were processed\n"
    shown = run("tcpdump", "-nnr", out).stdout
    assert shown.count("ICMP echo request") == shown.count("ICMP echo reply") == 3


def test_package_carries_its_profiles_and_manual(package: Path) -> None:
    assert "/usr/lib/retis/retis_py/_data/profiles/generic.yaml:" in run("retis", "profile", "list").stdout
    assert run("man", "-w", "retis-collect").stdout == "/usr/share/man/man1/retis-collect.1.gz\n"
