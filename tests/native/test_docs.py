"""Examples of README and docs that collect, run again: what they show is among what they print now."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.tools.examples import (
    SETUP,
    TEAR_DOWN,
    Block,
    Fence,
    blocks,
    command_lines,
    execute,
    fences,
    pages,
    run_line,
    shape,
)

LAB = [block for page in pages() for block in blocks(page) if block.lab]
HERE = [block for block in LAB if not block.kprobes]
#: what differs by kernel: what is missing, and which collectors it has
BY_KERNEL = ("WARN", "Collector(s) started:", "If an nft trace rule")


@pytest.fixture(scope="module")
def near_and_far() -> Iterator[None]:
    subprocess.run(["bash", "-c", TEAR_DOWN], capture_output=True)
    subprocess.run(["bash", "-c", SETUP], check=True, capture_output=True)
    yield
    subprocess.run(["bash", "-c", TEAR_DOWN], check=True)


@pytest.mark.one_kernel
@pytest.mark.parametrize("block", HERE, ids=lambda block: block.name)
def test_example_collects_what_is_shown(near_and_far: None, block: Block, tmp_path: Path) -> None:
    check(block, tmp_path)


#: commands shown without what they print
RUN = [fence for page in pages() for fence in fences(page) if fence.kind == "run in the lab"]


@pytest.mark.one_kernel
@pytest.mark.parametrize("fence", [fence for fence in RUN if not fence.kprobes], ids=lambda fence: fence.name)
def test_commands_succeed(near_and_far: None, fence: Fence, tmp_path: Path) -> None:
    check_commands(fence, tmp_path)


def check_commands(fence: Fence, tmp_path: Path) -> None:
    """Run the commands of *fence*, each in a directory of its own."""
    for number, command in enumerate(command_lines(fence.body)):
        (tmp_path / str(number)).mkdir()
        status, output = run_line(command, tmp_path / str(number))
        assert status == 0, f"{command}\n{output}"


def check(block: Block, tmp_path: Path) -> None:
    """Run the commands of *block*: what it shows is among what they print."""
    for command, shown in block.commands:
        got = {shape(line) for line in execute(command, tmp_path).splitlines()}
        due = {shape(line) for line in shown.splitlines() if not line.startswith(BY_KERNEL)}
        assert len(due) > 2 and due <= got, command
