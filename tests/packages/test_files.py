"""What the packages put on a system: man pages, unit, container wrapper."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from packages import man
from retis_py.cli import COMMANDS, cli

PACKAGES = Path(__file__).resolve().parents[2] / "packages"


def test_every_command_has_a_man_page_with_its_options_and_examples() -> None:
    pages = man.pages()
    assert {"retis.1", "retis-profile-list.1", *(f"retis-{name}.1" for name in COMMANDS)} == set(pages)
    collect = pages["retis-collect.1"].replace("\\-", "-").replace("\\(aq", "'")
    for word in ("--filter-packet EXPR", ".SH collector 'skb'", "tcp port 443", ".SH EXIT STATUS", "retis-sort (1)"):
        assert word.replace("retis-sort (1)", ".BR retis-sort (1)") in collect


@pytest.mark.skipif(shutil.which("groff") is None and shutil.which("man") is None, reason="no man here")
def test_man_pages_are_clean_troff(tmp_path: Path) -> None:
    for path in man.write(tmp_path):
        done = subprocess.run(
            ["man", "--warnings=w", "-l", str(path)],
            capture_output=True,
            text=True,
            env={**os.environ, "MANPAGER": "cat", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
        )
        assert done.returncode == 0 and done.stderr == "", path
        assert ("NAME\n" in done.stdout and "EXAMPLES\n" in done.stdout) or "profile.1" in path.name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    unit = tmp_path / "retis.service"
    unit.write_text((PACKAGES / "retis.service").read_text().replace("/usr/lib/retis/retis-record", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if "retis.service" in line] == []


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A program that writes down its arguments, one per line, for whoever calls it."""
    program = tmp_path / "bin" / "fake"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor a in "$@"; do printf "%s\\n" "$a"; done\npwd\n')
    program.chmod(0o755)
    return program


def record(fake: Path, tmp_path: Path, **settings: str) -> list[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "RETIS": str(fake),
        "STATE_DIRECTORY": str(tmp_path / "state"),
        **settings,
    }
    done = subprocess.run([PACKAGES / "retis-record"], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.splitlines()


def test_recording_rotates_and_has_a_directory_of_its_own(fake: Path, tmp_path: Path) -> None:
    *arguments, directory = record(fake, tmp_path)
    assert arguments == [
        "collect",
        "-o",
        "retis.data",
        "--out-rotate",
        "100MB",
        "--out-rotate-count",
        "20",
        "-c",
        "auto",
    ]
    assert re.fullmatch(rf"{tmp_path}/state/\d{{8}}T\d{{6}}Z", directory)


def test_settings_of_a_recording_become_arguments_unharmed(fake: Path, tmp_path: Path) -> None:
    given = {"RETIS_FILTER": "tcp port 443 or icmp", "RETIS_META_FILTER": 'sk_buff.dev.name == "eth0"'}
    arguments = record(fake, tmp_path, RETIS_PROBES="tp:skb:* ip_rcv", RETIS_ROTATE="1GB", RETIS_KEEP="3", **given)
    assert arguments[3:-1] == [
        *("--out-rotate", "1GB", "--out-rotate-count", "3", "-c", "auto"),
        *("-f", "tcp port 443 or icmp", "-m", 'sk_buff.dev.name == "eth0"', "-p", "tp:skb:*", "-p", "ip_rcv"),
    ]
    assert record(fake, tmp_path, RETIS_PROFILE="dropmon,generic")[:3] == ["-p", "dropmon,generic", "collect"]
    assert "-c" not in record(fake, tmp_path, RETIS_PROFILE="dropmon")


def test_options_of_the_recording_exist() -> None:
    collect = cli.get_command(cli.make_context("retis", ["schema"], resilient_parsing=True), "collect")
    assert collect is not None
    known = {name for param in collect.params for name in param.opts}
    assert {"-o", "--out-rotate", "--out-rotate-count", "-c", "-f", "-m", "-p"} <= known


def container(fake: Path, *arguments: str, runtime: str = "podman") -> list[str]:
    fake.rename(fake.parent / runtime)
    environment = {**os.environ, "PATH": f"{fake.parent}:/usr/bin:/bin", "HOME": "/nonexistent"}
    command = [PACKAGES / "retis_in_container.sh", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, cwd=fake.parent)
    return done.stdout.splitlines()[:-1]


def test_container_gets_the_rights_of_the_reference_and_nothing_else(fake: Path) -> None:
    arguments = container(fake, "collect", "-f", "tcp port 443", "-o")
    at = arguments.index("localhost/retis-py:latest")
    assert arguments[at + 1 :] == ["collect", "-f", "tcp port 443", "-o"]
    rights = [arguments[i + 1] for i, word in enumerate(arguments) if word == "--cap-add"]
    assert rights == ["SYS_ADMIN", "BPF", "SYSLOG", "PERFMON", "NET_ADMIN", "DAC_OVERRIDE", "SYS_PTRACE"]
    for word in ("--pid=host", "--read-only", "no-new-privileges", f"{fake.parent}:/data:rw", "LC_ALL=C.UTF-8"):
        assert word in arguments
    assert "-t" not in arguments, "a pipe must get the bytes as they are"
    assert arguments[arguments.index("--net") + 1] == "none"


def test_docker_is_unconfined_only_for_system_changes(fake: Path, tmp_path: Path) -> None:
    arguments = container(fake, "collect", "--allow-system-changes", runtime="docker")
    assert "apparmor=unconfined" in arguments
    (fake.parent / "docker").rename(fake)
    assert "apparmor=unconfined" not in container(fake, "collect", runtime="podman")
