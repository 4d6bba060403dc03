"""Examples of README and docs that collect, on a kernel that can be traced in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.tools.examples import Block, Fence
from tests.native.test_docs import (
    LAB,
    RUN,
    check,
    check_commands,
    near_and_far,
    test_commands_succeed,
    test_example_collects_what_is_shown,
)

__all__ = ["near_and_far", "test_commands_succeed", "test_example_collects_what_is_shown"]


@pytest.mark.one_kernel
@pytest.mark.parametrize("block", [block for block in LAB if block.kprobes], ids=lambda block: block.name)
def test_example_with_functions_collects_what_is_shown(near_and_far: None, block: Block, tmp_path: Path) -> None:
    check(block, tmp_path)


@pytest.mark.one_kernel
@pytest.mark.parametrize("fence", [fence for fence in RUN if fence.kprobes], ids=lambda fence: fence.name)
def test_commands_with_functions_succeed(near_and_far: None, fence: Fence, tmp_path: Path) -> None:
    check_commands(fence, tmp_path)
