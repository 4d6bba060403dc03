"""Examples of README and docs that collect, on a kernel that can be traced in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.tools.examples import Block
from tests.native.test_docs import LAB, check, near_and_far, test_example_collects_what_is_shown

__all__ = ["near_and_far", "test_example_collects_what_is_shown"]


@pytest.mark.one_kernel
@pytest.mark.parametrize("block", [block for block in LAB if block.kprobes], ids=lambda block: block.name)
def test_example_with_functions_collects_what_is_shown(near_and_far: None, block: Block, tmp_path: Path) -> None:
    check(block, tmp_path)
