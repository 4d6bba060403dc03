"""How much memory commands take for files that nobody collected: as much as for any other, whatever is in them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import dumps
from tests.support.oracle import STARTUP

#: runs the command line; what it took, in MB, ends stderr
_MEASURE = (
    "import resource, subprocess, sys\n"
    "done = subprocess.run([sys.executable, '-m', 'retis_py', *sys.argv[1:]], stdout=subprocess.DEVNULL)\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10, file=sys.stderr)\n"
    "sys.exit(done.returncode)\n"
)


def megabytes(*arguments: str) -> int:
    """The largest resident set of ``retis`` with *arguments*, which must succeed, in MB."""
    done = subprocess.run([sys.executable, "-c", _MEASURE, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1])


def write(path: Path, lines: Iterator[Any]) -> str:
    with path.open("w") as file:
        file.write(dumps(STARTUP) + "\n")
        for line in lines:
            file.write(dumps(line) + "\n")
    return str(path)


def of_packet(number: int, **sections: Any) -> dict[str, Any]:
    return {
        "common": {"timestamp": 100 + number},
        "skb-tracking": {"orig_head": number, "timestamp": 100 + number, "skb": 1},
        **sections,
    }


def kernel(symbol: str, **more: Any) -> dict[str, Any]:
    return {"symbol": symbol, "probe_type": "kprobe", **more}


LONG = "x" * (4 << 20)
LARGE = {
    "a stack": lambda number: of_packet(number, kernel=kernel("f", stack_trace=[LONG])),
    "many short strings": lambda number: of_packet(number, kernel=kernel("f", stack_trace=["ab"] * (1 << 19))),
    "what no text shows": lambda number: of_packet(
        number,
        userspace={"probe_type": "usdt", "symbol": "a:b", "ip": 1, "path": f"{LONG}{number}/b", "pid": 1, "tid": 1},
    ),
    "no packet": lambda number: {"common": {"timestamp": number}, "kernel": kernel(LONG)},
    "flows": lambda number: {
        "common": {"timestamp": number},
        "ovs-detrace": {"ufid": [1, 2, 3, number], "flow": 1, "sf_acts": 2, "dpflow": LONG, "ofpflows": []},
    },
}


@pytest.mark.parametrize("output", [(), ("-o", "/dev/null")], ids=["text", "file"])
@pytest.mark.parametrize("kind", LARGE)
def test_sort_does_not_hold_a_thousand_large_events(tmp_path: Path, kind: str, output: tuple[str, ...]) -> None:
    path = write(tmp_path / "events.data", map(LARGE[kind], range(60)))
    assert megabytes("sort", *output, path) < 150


@pytest.mark.parametrize("command", ["print", "pcap", "stats"])
def test_others_do_not_remember_large_sections(tmp_path: Path, command: str) -> None:
    def event(number: int) -> dict[str, Any]:
        packet = {"len": 60, "capture_len": 60, "data": "AAAA" * 20, "a field of a later version": LONG}
        return of_packet(number, kernel=kernel("f"), packet={**packet, "number": number})

    path = write(tmp_path / "events.data", map(event, range(60)))
    assert megabytes(command, path) < 130


def test_sort_remembers_a_bounded_number_of_flows(tmp_path: Path) -> None:
    flow = "in_port(1)" * 100
    path = write(
        tmp_path / "events.data",
        (
            {
                "common": {"timestamp": number},
                "ovs-detrace": {"ufid": [1, 2, 3, number], "flow": 1, "sf_acts": 2, "dpflow": flow, "ofpflows": []},
            }
            for number in range(120_000)
        ),
    )
    assert megabytes("sort", "-o", "/dev/null", path) < 90


def test_stats_tells_a_bounded_number_of_probes_apart(tmp_path: Path) -> None:
    name = "a_function_with_a_long_name_" * 2
    path = write(
        tmp_path / "events.data",
        ({"common": {"timestamp": number}, "kernel": kernel(f"{name}{number}")} for number in range(400_000)),
    )
    assert megabytes("stats", path) < 90


def test_pcap_of_many_probes_keeps_their_names_only(tmp_path: Path) -> None:
    packet = {"len": 3, "capture_len": 3, "data": "AAAA"}
    path = write(
        tmp_path / "events.data",
        (
            {"common": {"timestamp": number}, "kernel": kernel(f"a_function_{number}"), "packet": packet}
            for number in range(60_000)
        ),
    )
    assert megabytes("pcap", path) < 100
