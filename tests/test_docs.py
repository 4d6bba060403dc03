"""The documentation says what is so: examples print what is shown, generated pages are fresh, the site builds."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from docs.tools import reference
from docs.tools.examples import (
    DATA,
    KINDS,
    Block,
    Fence,
    blocks,
    command_lines,
    execute,
    fences,
    pages,
    plain_text,
    run_line,
)
from retis_py.cli.base import examples
from retis_py.collectors import Event
from retis_py.errors import FilterError
from retis_py.filters.meta import meta_filter
from retis_py.filters.packet import DLT_EN10MB, compile_pcap, packet_filter
from retis_py.kernel.features import has_kprobes

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = [block for page in pages() for block in blocks(page)]


@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.lab], ids=lambda block: block.name)
def test_example_prints_what_is_shown(block: Block) -> None:
    for command, shown in block.commands:
        for tool in ("tshark", "tcpdump", "jq"):
            if re.search(rf"\b{tool}\b", command) and shutil.which(tool, path="/usr/sbin:/usr/bin:/bin") is None:
                pytest.skip(f"{tool} is not installed")
        if "pandas" in command or "export" in command:
            pytest.importorskip("pandas")
            pytest.importorskip("pyarrow")
        assert plain_text(execute(command, DATA)) == shown, f"{command}\n(make gen writes what it prints now)"


def test_there_are_examples_of_both_kinds() -> None:
    assert sum(block.lab for block in BLOCKS) >= 4 and sum(not block.lab for block in BLOCKS) >= 15


FENCES = [fence for page in pages() for fence in fences(page)]
#: blocks that nothing runs, and why not
NOT_RUN = [
    ("README.md", "starts the lab, in which tests run"),
    ("README.md", "downloads an image, and needs podman"),
    ("docs/design.md", "a drawing"),
    ("docs/index.md", "sets up the checkout that tests run in"),
    ("docs/packages.md", "installs packages of the distribution"),
    ("docs/packages.md", "downloads an image, and needs podman"),
    ("docs/packages.md", "needs systemd and an editor"),
    ("docs/packages.md", "on a file of that service"),
]


def of_kind(kind: str) -> Any:
    found = [fence for fence in FENCES if fence.kind == kind]
    return pytest.mark.parametrize("fence", found, ids=lambda fence: fence.name)


def test_every_block_is_run_or_says_why_not() -> None:
    assert [fence.name for fence in FENCES if fence.kind is None] == []
    assert {fence.kind for fence in FENCES} == set(KINDS)
    left_out = [fence for fence in FENCES if fence.kind == "not run"]
    listed = [(fence.name.partition(":")[0], fence.marker.partition(": ")[2]) for fence in left_out]
    assert listed == NOT_RUN
    # commands in indented text would be run by nobody
    assert [page.name for page in pages() if re.search(r"^    (?:sudo )?(?:retis|make) ", page.read_text(), re.M)] == []


@of_kind("run in the checkout")
def test_commands_for_the_checkout_succeed(fence: Fence) -> None:
    for command in command_lines(fence.body):
        environment = {**os.environ, "PACKAGES": "skip"}
        done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, env=environment)
        assert done.returncode == 0, f"{command}\n{done.stderr.decode()}"


@of_kind("python")
def test_python_runs(fence: Fence, tmp_path: Path) -> None:
    pytest.importorskip("scapy")
    (tmp_path / "example.py").write_text(fence.body)
    status, output = run_line("python example.py", tmp_path)
    assert status == 0 and "NO_SOCKET" in output, output


@of_kind("sql")
def test_sql_runs(fence: Fence, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    duckdb = pytest.importorskip("duckdb")
    (table,) = re.findall(r"'(\S+\.parquet)'", fence.body)
    status, output = run_line("retis export --parquet retis.parquet retis.data", tmp_path)
    assert status == 0, output
    rows = duckdb.sql(fence.body.replace(table, str(tmp_path / "retis.parquet"))).fetchall()
    assert ("skb:kfree_skb", "NO_SOCKET", 2) in rows


@of_kind("yaml")
def test_profiles_shown_are_valid(fence: Fence, tmp_path: Path) -> None:
    from retis_py.cli import _takes_value, cli
    from retis_py.profiles import arguments

    path = tmp_path / "shown.yaml"
    path.write_text(fence.body)
    for name in ("collect", "pcap"):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert arguments([str(path)], name, None, lambda symbol: True, _takes_value(command))


@of_kind("nft")
def test_rulesets_are_valid(fence: Fence) -> None:
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if nft is None or os.geteuid() != 0:
        pytest.skip("nft checks rulesets for root only")
    done = subprocess.run([nft, "-c", "-f", "-"], input=fence.body, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _help_examples() -> list[str]:
    """Those of commands that work on files: the others are run in the lab."""
    from retis_py.cli import COMMANDS, cli

    found = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        found += examples(command)
        for child in command.commands.values() if isinstance(command, click.Group) else ():
            found += examples(child)
    return [line for line in found if "collect" not in line]


@pytest.mark.parametrize("line", _help_examples())
def test_examples_of_help_succeed(line: str, tmp_path: Path) -> None:
    if "parquet" in line:
        pytest.importorskip("pyarrow")
    if "tcpdump" in line and shutil.which("tcpdump", path="/usr/sbin:/usr/bin:/bin") is None:
        pytest.skip("tcpdump is not installed")
    if "inspect" in line and not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("kernel without BTF")
    shutil.copy(DATA / "retis.data", tmp_path / "retis.data.0")
    (tmp_path / "my-profiles").mkdir()
    (tmp_path / ".config/fish/completions").mkdir(parents=True)
    if "-p 'tcp_v4_*'" in line and not has_kprobes():
        pytest.skip("kernel without kprobes")
    status, output = run_line(line, tmp_path)
    assert status == 0, output


@pytest.mark.parametrize("path", list(reference.generated()), ids=lambda path: path.name)
def test_generated_page_is_fresh(path: Path) -> None:
    assert path.read_text() == reference.generated()[path], "run make gen"


def test_sections_and_their_fields_are_described() -> None:
    text = (reference.REFERENCE / "sections.md").read_text()
    rows = [line for line in text.splitlines() if line.endswith("|  |")]
    assert rows == [], "a field without a #: comment"
    headings = re.findall(r"^## ([\w-]+)$", text, re.M)
    assert headings == list(Event.__struct_encode_fields__)


def _shown_commands() -> list[str]:
    """Every retis command in README, docs and help, with and without output."""
    from retis_py.cli import COMMANDS, cli

    lines = []
    for page in pages():
        for part in re.findall(r"^```(?:text|console|sh)\n(.*?)^```$", page.read_text(), re.M | re.S):
            lines += part.splitlines()
        lines += re.findall(r"^    (.*)$", page.read_text(), re.M)
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        lines += examples(command)
    found = []
    for line in lines:
        for part in re.split(r" \| |; |&& |<\(", line.partition("   #")[0].removeprefix("$ ")):
            words = re.match(r"(?:sudo )?(?:\S*/)?(retis (?!COMMAND).*)", part.strip())
            if words is None:
                continue
            text = words[1].rstrip(")").partition(" > ")[0].partition(" 2>")[0]
            with contextlib.suppress(ValueError):  # cut within quotes
                shlex.split(text)
                found.append(text)
    return list(dict.fromkeys(found))


def test_every_command_shown_is_one() -> None:
    """Its sub-command and options exist, as they are given."""
    from retis_py.cli import cli

    shown = _shown_commands()
    assert len(shown) > 40
    for line in shown:
        words = shlex.split(line)[1:]
        command: click.Command = cli
        while True:
            ctx = click.Context(command, info_name="retis", resilient_parsing=False)
            try:
                _, rest, _ = command.make_parser(ctx).parse_args(args=list(words))
            except click.UsageError as error:
                pytest.fail(f"{line}: {error.format_message()}")
            if not isinstance(command, click.Group) or not rest:
                break
            child = command.get_command(ctx, rest[0])
            if child is None:
                # a sentence, not a command
                assert command is cli and not re.match(r"-|collect|print|sort|pcap", rest[0]), line
                break
            command, words = child, rest[1:]


def _cookbook() -> tuple[list[str], list[str]]:
    text = (ROOT / "docs" / "filtering.md").read_text()
    parts = re.split(r"^## ", text, flags=re.M)
    rows = [re.findall(r"^\| `(.+?)` \|", part.replace("\\|", "\x01"), re.M) for part in parts[1:3]]
    content, metadata = ([row.replace("\x01", "|") for row in found] for found in rows)
    return content, metadata


CONTENT, METADATA = _cookbook()


def test_cookbook_has_twenty_filters() -> None:
    assert len(CONTENT) + len(METADATA) == 20


def _frames() -> dict[str, bytes]:
    """Frames that the filters are about, made by scapy."""
    from scapy.layers.dns import DNS
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.layers.l2 import ARP, Ether

    one, two = "10.0.42.1", "10.0.42.2"
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    made = {
        "syn": IP(src=one, dst=two) / TCP(sport=40000, dport=443, flags="S"),
        "synack": IP(src=two, dst=one) / TCP(sport=443, dport=40000, flags="SA"),
        "rst": IP(src="192.0.2.1", dst="192.0.2.2") / TCP(sport=8080, dport=5000, flags="R"),
        "outside": IP(src="192.0.2.1", dst="192.0.2.2") / TCP(sport=40000, dport=443, flags="A") / bytes(1500),
        "dns": IP(src="192.0.2.1", dst="192.0.2.53") / UDP(sport=9999, dport=53) / DNS(),
        "echo": IP(src="192.0.2.1", dst="192.0.2.2") / ICMP(type=8),
        "unreachable": IP(src="192.0.2.1", dst="192.0.2.2", tos=0xB8) / ICMP(type=3, code=1),
        "echo6": IPv6(src="2001:db8::1", dst="2001:db8::2") / ICMPv6EchoRequest(),
        "fragment": IP(src="192.0.2.1", dst="192.0.2.2", flags="MF", frag=0, proto=17) / bytes(64),
        "arp": ARP(psrc=one, pdst=two),
    }
    return {name: bytes(ether / packet) for name, packet in made.items()}


#: filter of the cookbook -> the frames above that it matches
MATCHES = {
    "host 10.0.42.1": {"syn", "synack", "arp"},
    "src host 10.0.42.1 and dst host 10.0.42.2": {"syn", "arp"},
    "net 10.0.42.0/24": {"syn", "synack", "arp"},
    "tcp port 443": {"syn", "synack", "outside"},
    "udp dst port 53": {"dns"},
    "tcp portrange 8000-8080": {"rst"},
    "icmp or icmp6": {"echo", "unreachable", "echo6"},
    "icmp[icmptype] == icmp-unreach": {"unreachable"},
    "arp": {"arp"},
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn": {"syn"},
    "tcp[tcpflags] & tcp-rst != 0": {"rst"},
    "ip[6:2] & 0x3fff != 0": {"fragment"},
    "ip[1] & 0xfc != 0": {"unreachable"},
    "greater 1400": {"outside"},
    "tcp port 443 and not net 10.0.0.0/8": {"outside"},
}


def test_every_filter_of_the_cookbook_matches_what_it_says(tmp_path: Path) -> None:
    """In our translation to C, compiled for this machine."""
    from tests.filters.test_packet import CALL, CC, SHIM

    if CC is None:
        pytest.skip("no C compiler")
    import ctypes

    from retis_py.filters.packet import to_c
    from retis_py.paths import bpf_dir

    assert list(MATCHES) == CONTENT
    source = [SHIM, (bpf_dir() / "packet.h").read_text()]
    for number, expression in enumerate(CONTENT):
        assert packet_filter(expression).message()
        source += [to_c(f"filter_{number}", compile_pcap(expression, DLT_EN10MB), 128), CALL.format(n=number)]
    (tmp_path / "filters.c").write_text("\n".join(source))
    library = tmp_path / "filters.so"
    subprocess.run([CC, "-w", "-O1", "-shared", "-fPIC", "-o", library, tmp_path / "filters.c"], check=True)
    compiled = ctypes.CDLL(str(library))
    for number, expression in enumerate(CONTENT):
        match = getattr(compiled, f"match_{number}")
        frames = _frames()
        assert {name for name, frame in frames.items() if match(frame, len(frame), len(frame))} == MATCHES[expression]


def test_every_metadata_filter_of_the_cookbook_compiles_for_this_kernel() -> None:
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("kernel without BTF")
    from retis_py.kernel.types import KernelTypes

    types = KernelTypes()
    for expression in METADATA:
        if "nf_conn" in expression and types.vmlinux.size_of("nf_conn") is None:
            continue  # a module that is not loaded
        try:
            assert "meta" in meta_filter(expression, types)
        except FilterError as error:
            pytest.fail(f"{expression}: {error}")


def test_site_builds_without_a_warning_and_without_the_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    loaded = re.findall(
        r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', (tmp_path / "site/index.html").read_text()
    )
    assert [url for url in loaded if "canonical" not in url] == []
